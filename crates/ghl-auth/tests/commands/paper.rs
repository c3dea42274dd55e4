//! Help, mistakes, completions, the manual page, the sandbox and the demo: what a newcomer meets.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Home, Running, free_port, http, is_there, snapshot};

const COMMANDS: [&str; 17] = [
    "check",
    "login",
    "token",
    "exec",
    "status",
    "refresh",
    "import",
    "export",
    "backup",
    "restore",
    "migrate",
    "rotate-all",
    "schedule",
    "sandbox",
    "demo",
    "completions",
    "man",
];

#[test]
fn the_main_help_looks_like_this() {
    for lang in ["en", "pt-BR"] {
        let home = Home::empty().set("GHL_AUTH_LANG", lang);
        let help = home.run(["--help"]).good();
        assert_eq!(help.err, "");
        snapshot(&format!("help-{lang}"), &help.out);
        assert_eq!(home.run(["-h"]).good().out, help.out);
    }
}

#[test]
fn the_help_of_every_command_is_in_the_readers_language() {
    let english = Home::empty().set("GHL_AUTH_LANG", "en");
    let portuguese = Home::empty().set("GHL_AUTH_LANG", "pt-BR");
    let mut all = String::new();
    let subcommands = [["schedule", "show"], ["schedule", "install"], ["schedule", "remove"]];
    let commands = COMMANDS.iter().map(|command| vec![*command]).chain(subcommands.map(|both| both.to_vec()));
    for mut arguments in commands {
        arguments.push("--help");
        let (ours, theirs) = (english.run(&arguments).good().out, portuguese.run(&arguments).good().out);
        assert!(ours.contains("Usage:\n  ghl-auth ") && ours.contains("Options:"), "{ours}");
        assert!(theirs.contains("Uso:\n  ghl-auth ") && theirs.contains("Opções:"), "{theirs}");
        for word in
            ["Usage", "Options", "OPTIONS", "Commands", "Arguments", "Print", "default:", "possible values"]
        {
            assert!(!theirs.contains(word), "{word} in {theirs}");
        }
        for line in ours.lines().filter(|line| {
            line.split_whitespace().count() > 4 && !line.contains("ghl-auth ") && !line.contains("curl")
        }) {
            assert!(!theirs.contains(line), "{arguments:?}: {line}");
        }
        all.push_str(&theirs);
        all.push_str("----\n");
    }
    snapshot("help-of-each-pt-BR", &all);
}

#[test]
fn a_mistake_is_named_in_the_readers_language() {
    let cases: [(&[&str], [&str; 2]); 9] = [
        (&["chek"], ["There is no command `chek`.", "Não existe o comando `chek`."]),
        (&["token", "--jsn"], ["I don't know `--jsn`.", "Não conheço `--jsn`."]),
        (&["import"], ["Something is missing: `<PATH>`.", "Falta algo: `<PATH>`."]),
        (&["exec"], ["Something is missing: `<COMMAND>...`.", "Falta algo: `<COMMAND>...`."]),
        (
            &["schedule"],
            ["Something is missing: `show, install, remove`.", "Falta algo: `show, install, remove`."],
        ),
        (
            &["check", "--wait-for-workflow", "soon"],
            ["`soon` is no good value for --wait-for-workflow", "`soon` não serve para --wait-for-workflow"],
        ),
        (
            &["token", "--json", "--header"],
            ["`--json` and `--header` exclude each other.", "`--json` e `--header` se excluem."],
        ),
        (
            &["completions", "tcsh"],
            ["`tcsh` is no good value for <SHELL>.", "`tcsh` não serve para <SHELL>."],
        ),
        (
            &["token", "--location", "a b"],
            ["`a b` is no good value for --location <ID>.", "`a b` não serve para --location <ID>."],
        ),
    ];
    for (number, lang) in ["en", "pt-BR"].into_iter().enumerate() {
        let home = Home::empty().set("GHL_AUTH_LANG", lang);
        for (arguments, words) in &cases {
            let run = home.run(*arguments).ended(2).complains(words[number]);
            assert_eq!(run.out, "", "{arguments:?}");
            assert!(run.err.trim_end().ends_with("ghl-auth --help"), "{}", run.err);
        }
    }
}

#[test]
fn completions_are_there_for_each_shell() {
    for lang in ["en", "pt-BR"] {
        let home = Home::empty().set("GHL_AUTH_LANG", lang);
        for (shell, checker) in [
            ("bash", Some(["bash", "-n"])),
            ("zsh", Some(["zsh", "-n"])),
            ("fish", Some(["fish", "--no-execute"])),
            ("elvish", None),
            ("powershell", None),
        ] {
            let script = home.run(["completions", shell]).good().out;
            assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
            assert!(script.contains("wait-for-workflow"), "{shell}");
            let path = home.write(&format!("completions.{shell}"), &script);
            let Some([program, only_read]) = checker.filter(|[program, _]| is_there(program)) else {
                continue;
            };
            let read = Command::new(program).arg(only_read).arg(&path).output().expect("it starts");
            assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}

#[test]
fn the_manual_page_is_one_that_man_can_show() {
    for (lang, headings) in [
        ("en", ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"]),
        ("pt-BR", ["NOME", "SINOPSE", "DESCRIÇÃO", "OPÇÕES", "COMANDOS"]),
    ] {
        let home = Home::empty().set("GHL_AUTH_LANG", lang);
        let page = home.run(["man"]).good().out;
        assert!(page.contains("\n.TH ghl-auth 1"), "{page}");
        for heading in headings {
            assert!(page.lines().any(|line| line == format!(".SH {heading}")), "{heading} in {page}");
        }
        assert!(!page.contains("(1)\n"), "it names no page that is not there: {page}");
        let path = home.write("ghl-auth.1", &page);
        if is_there("groff") {
            let arguments = ["-K", "utf8", "-T", "utf8", "-man", "-ww", "-z"];
            let read = Command::new("groff").args(arguments).arg(&path).output().expect("it starts");
            assert_eq!(String::from_utf8_lossy(&read.stderr), "");
        }
    }
}

#[test]
fn the_sandbox_writes_an_env_that_works_and_overwrites_none() {
    let home = Home::empty();
    let address = format!("127.0.0.1:{}", free_port());
    let start = |path: &str| home.start(["sandbox", "--listen", &address, "--write-env", path]);
    let mut sandbox = start("sandbox.env");
    let said = sandbox.until_it_says("The sandbox listens on");
    assert!(said.contains("Wrote sandbox.env."), "{said}");
    sandbox.until_it_says(&format!("In a browser, to watch and to break things: http://{address}/"));
    let browser = [("accept", "text/html")];
    let console = http("GET", &format!("http://{address}/_sandbox/console"), &browser, "");
    assert!(console.body.contains("HighLevel answers as it should"), "{console:?}");
    let approved = http(
        "POST",
        &format!("http://{address}/_sandbox/approve"),
        &[("content-type", "application/json")],
        r#"{"redirect_uri":"http://127.0.0.1:8788/oauth/callback"}"#,
    );
    let approved: serde_json::Value = serde_json::from_str(&approved.body).expect("JSON");
    let code = approved["code"].as_str().expect("a code");
    home.run(["--env-file", "sandbox.env", "login", "--code", code]).good();
    home.run(["--env-file", "sandbox.env", "check"]).good();

    // What its help shows works as it stands.
    let help = home.run(["sandbox", "--help"]).good().out;
    let fault = help.lines().find(|line| line.contains("/_sandbox/faults")).expect("an example");
    let body = fault.split('\'').nth(1).expect("a body between quotes");
    let answer = http("POST", &format!("http://{address}/_sandbox/faults"), &[], body);
    assert_eq!(answer.status, 200, "{fault}: {answer:?}");
    assert_eq!(http("GET", &format!("http://{address}/_sandbox/ledger"), &[], "").status, 200);

    home.run(["sandbox", "--listen", &address]).fails_with(2, "sandbox_listen");
    sandbox.interrupt();
    assert_eq!(sandbox.end().code, 0);

    let before = home.read("sandbox.env");
    let again = start("sandbox.env").end().fails_with(2, "write_env").complains("never overwritten");
    drop(again);
    assert_eq!(home.read("sandbox.env"), before);
    home.run(["sandbox", "--listen", "0.0.0.0:0"]).fails_with(2, "sandbox_listen");
    home.run(["sandbox", "--listen", "everywhere"]).ended(2);
}

#[test]
fn the_demo_shows_the_whole_job_and_ends() {
    for (lang, words) in [
        ("en", ["Tokens saved.", "the whole path is proven", "operational", "one message"]),
        ("pt-BR", ["Tokens salvos.", "o caminho inteiro está provado", "operacional", "uma mensagem"]),
    ] {
        let home = Home::empty().set("GHL_AUTH_LANG", lang);
        let began = Instant::now();
        let run = home.run(["demo", "--once"]).good();
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        for words in words {
            assert!(run.out.contains(words), "{words} in {}", run.out);
        }
        assert_eq!(
            run.err.lines().filter(|line| !line.contains('…') && line.contains("warn")).count(),
            0,
            "{}",
            run.err
        );
    }
    // Settings that lie about do not get into it.
    let home = Home::new().set("GHL_CLIENT_ID", "nonsense").set("GHL_STORE", "redis:x");
    let mut demo = Running::start(home.command(["demo"]));
    let said = demo.until_it_says("Ctrl-C ends the service and the sandbox.");
    assert!(said.contains("In a browser, to watch and to break things: http://127.0.0.1:"), "{said}");
    demo.interrupt();
    demo.end().good();
    assert_eq!(home.sandbox.counts().requests, 0);
}
