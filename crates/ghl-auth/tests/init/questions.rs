//! At a terminal: from an empty folder to a light that is green, whatever is typed on the way.

use std::os::unix::fs::PermissionsExt;

use sandbox::UserType;

use crate::support::{ELSEWHERE, Home, http};
use crate::terminal::Terminal;
use crate::{SCOPES, newcomer, until, value, with_a_crontab, with_systemd};

fn code(home: &Home) -> String {
    home.sandbox.approve(ELSEWHERE, None, UserType::Location)
}

/// Everything up to the login, without a mistake.
fn answer_up_to_the_login(terminal: &mut Terminal, home: &Home) {
    let settings = home.sandbox.settings();
    terminal.is_asked("Language / Idioma").takes();
    terminal.is_asked("Client id").types(&settings.client_id);
    terminal.is_asked("Client secret").types(&settings.client_secret);
    terminal.is_asked("Redirect address").types(ELSEWHERE);
    terminal.is_asked("Location ID").types(&settings.location_id);
    terminal.is_asked("Where the tokens rest").takes();
}

#[test]
fn a_newcomer_gets_from_an_empty_folder_to_operational() {
    let (home, _log) = with_a_crontab(newcomer());
    home.sandbox.set_scopes(SCOPES);
    let settings = home.sandbox.settings().clone();
    let mut terminal = Terminal::open(&home, &[]);
    terminal.is_asked("Language / Idioma").takes();
    terminal.sees("Manage > Secrets > Client Keys").sees("locations/tags.write");
    terminal.is_asked("Client id").types("my app").sees("Copy it whole");
    terminal.is_asked("Client id").types(&settings.client_id);
    terminal.is_asked("Client secret").types(&settings.client_id).sees("That is the client id");
    terminal.is_asked("Client secret").types(&settings.client_secret);
    terminal.is_asked("Redirect address").types("http://example.com/").sees("may not travel unencrypted");
    terminal.is_asked("Redirect address").types(ELSEWHERE);
    terminal.sees("Settings > Company Profile > Location ID");
    terminal.is_asked("Location ID").types("Jardins Imob").sees("not the name of the sub-account");
    terminal.is_asked("Location ID").types(&settings.location_id);
    terminal.is_asked("Where the tokens rest").types("mysql:x").sees("file:PATH, sqlite:PATH");
    terminal.is_asked("Where the tokens rest").takes().sees("Keep a copy of it");
    terminal.sees("/v2/oauth/chooselocation").pastes("what now").sees("no_code");
    terminal.pastes(&code(&home)).sees("Connected: Sandbox Location 1");
    terminal.is_asked("Name of this service").types("JARDINS-IMOB");
    terminal.is_asked("Contact of the health check").types("AbCdEfGhIjKlMnOpQrSt");
    terminal.sees("HighLevel knows no such contact");
    terminal.is_asked("Contact of the health check").types("ana@example").sees("no e-mail address");
    terminal
        .is_asked("Contact of the health check")
        .types("ana@example.com")
        .sees("Make one?")
        .types("maybe");
    terminal
        .sees("y (yes) or n (no)")
        .types(&format!("{}n", "\u{7f}".repeat(5)))
        .sees("Then name another contact");
    terminal.is_asked("Contact of the health check").types(&settings.contact_email);
    terminal.sees(&format!("is the contact {}", settings.contact_id));
    terminal.is_asked("Tag of the health check").takes().sees("The tag Status:Online-AuthService was made");
    terminal.sees("contact.microservice_name of the contact is now JARDINS-IMOB");
    terminal.sees("Trigger: Contact Tag, Tag Added, Status:Online-AuthService");
    terminal.sees("operational");
    terminal.is_asked("What is to repeat the check?").chooses(0);
    terminal.is_asked("Hours between two checks").types("5").sees("cron keeps 1, 2, 3");
    terminal.is_asked("Hours between two checks").types("6").sees("The check will run every 6 h");
    let said = terminal.ends(0);
    assert!(said.contains("Done. The settings stand in "), "{said}");
    assert!(!said.contains(&settings.client_secret), "a secret is masked: {said}");

    let env = home.read(".env");
    for (name, expected) in [
        ("GHL_AUTH_LANG", "en"),
        ("GHL_CLIENT_ID", &settings.client_id),
        ("GHL_CLIENT_SECRET", &settings.client_secret),
        ("GHL_REDIRECT_URI", ELSEWHERE),
        ("GHL_LOCATION_ID", &settings.location_id),
        ("GHL_STORE", "sqlite:ghl-auth.db"),
        ("MICROSERVICE_NAME", "JARDINS-IMOB"),
        ("GHL_HEALTH_CHECK_CONTACT_ID", &settings.contact_id),
        ("GHL_HEALTH_CHECK_TAG_NAME", "Status:Online-AuthService"),
        ("RUN_INTERVAL_HOURS", "6"),
    ] {
        assert_eq!(value(&env, name).as_deref(), Some(expected), "{name}");
    }
    let mode = std::fs::metadata(home.path(".env")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(home.read("crontab.txt").contains("0 */6 * * *"));
    let token = home.run(["token"]).good().out;
    let url = format!("{}/contacts/{}", home.sandbox.base_url(), settings.contact_id);
    let bearer = format!("Bearer {}", token.trim());
    let contact = http("GET", &url, &[("authorization", &bearer), ("version", "2021-07-28")], "").body;
    assert!(contact.contains("JARDINS-IMOB"), "{contact}");
}

#[test]
fn quem_fala_portugues_chega_da_pasta_vazia_ao_operacional() {
    // The app was given no more than a check needs: what init may not do, it says.
    let home = newcomer();
    let settings = home.sandbox.settings().clone();
    let mut terminal = Terminal::open(&home, &[]);
    terminal.is_asked("Language / Idioma").chooses(1);
    terminal.sees("Cada resposta é salva na hora");
    terminal.is_asked("Client id").types("meu app").sees("Copie-o inteiro");
    terminal.is_asked("Client id").types(&settings.client_id);
    terminal.is_asked("Client secret").types("pit-0").sees("Private Integration Token");
    terminal.is_asked("Client secret").types(&settings.client_secret);
    terminal.is_asked("Endereço de redirecionamento").types("google").sees("começa com https://");
    terminal.is_asked("Endereço de redirecionamento").types(ELSEWHERE);
    terminal.is_asked("Location ID").types(&settings.location_id);
    terminal.is_asked("Onde os tokens ficam").types("file:ghl_tokens.json");
    terminal.sees("/v2/oauth/chooselocation").pastes(&format!("{ELSEWHERE}?code={}", code(&home)));
    terminal.sees("Conectado: Sandbox Location 1");
    terminal.is_asked("Nome deste serviço").takes();
    terminal.is_asked("Contato da verificação").types("ana@exemplo.com.br").sees("Criar um?").types("s");
    terminal.sees("Criado: o contato ");
    terminal.is_asked("Tag da verificação").types("Status:Vivo");
    terminal.sees("crie-a lá à mão").sees("locations/tags.readonly");
    terminal.sees("precisa do escopo locations/customFields.readonly");
    terminal.sees("Tag 'Status:Vivo' adicionada ao contato");
    terminal.sees("Microserviço operacional");
    terminal.is_asked("O que deve repetir a verificação?").chooses(3);
    let said = terminal.ends(0);
    assert!(said.contains("Nada repete a verificação ainda") && said.contains("Pronto."), "{said}");
    let env = home.read(".env");
    assert_eq!(value(&env, "GHL_AUTH_LANG").as_deref(), Some("pt-BR"));
    assert_eq!(value(&env, "GHL_AUTH_KEY"), None, "the template's file stays readable for the template");
    let contact = value(&env, "GHL_HEALTH_CHECK_CONTACT_ID").expect("a contact");
    assert_eq!(home.sandbox.tags_of(&contact), ["Status:Vivo"]);
}

#[test]
fn whoever_is_killed_after_any_question_goes_on_where_they_were() {
    let (home, _log) = with_a_crontab(newcomer());
    let settings = home.sandbox.settings().clone();
    let code = || code(&home);
    let questions: [(&str, &str); 6] = [
        ("Language / Idioma", ""),
        ("Client id", &settings.client_id),
        ("Client secret", &settings.client_secret),
        ("Redirect address", ELSEWHERE),
        ("Location ID", &settings.location_id),
        ("Where the tokens rest", "sqlite:mine.db"),
    ];
    let after: [(&str, &str); 3] = [
        ("Name of this service", "NIGHT"),
        ("Contact of the health check", &settings.contact_id),
        ("Tag of the health check", "Status:Night"),
    ];
    let mut keys = Vec::new();
    for answered in 0..questions.len() {
        let mut terminal = Terminal::open(&home, &[]);
        for (question, _) in &questions[..answered] {
            terminal.is_asked(question).takes();
        }
        let (question, answer) = questions[answered];
        terminal.is_asked(question).types(answer);
        match questions.get(answered + 1) {
            Some((next, _)) => terminal.is_asked(next),
            None => terminal.sees("/v2/oauth/chooselocation"),
        };
        terminal.kill();
        keys.extend(value(&home.read(".env"), "GHL_AUTH_KEY"));
    }
    for answered in 0..after.len() {
        let mut terminal = Terminal::open(&home, &[]);
        for (question, _) in questions {
            terminal.is_asked(question).takes();
        }
        if answered == 0 {
            terminal.sees("/v2/oauth/chooselocation").pastes(&code());
        }
        terminal.sees("Connected: ");
        for (question, _) in &after[..answered] {
            terminal.is_asked(question).takes();
        }
        let (question, answer) = after[answered];
        terminal.is_asked(question).types(answer);
        match after.get(answered + 1) {
            Some((next, _)) => terminal.is_asked(next),
            None => terminal.is_asked("What is to repeat the check?"),
        };
        terminal.kill();
        keys.extend(value(&home.read(".env"), "GHL_AUTH_KEY"));
    }
    let all_again = || {
        let mut terminal = Terminal::open(&home, &[]);
        for (question, _) in questions {
            terminal.is_asked(question).takes();
        }
        terminal.sees("Connected: ");
        for (question, _) in after {
            terminal.is_asked(question).takes();
        }
        terminal.sees("operational").is_asked("What is to repeat the check?");
        terminal
    };
    // After the question of the schedule, and after that of its hours, when the entry is being written.
    let mut terminal = all_again();
    terminal.chooses(0).is_asked("Hours between two checks");
    terminal.kill();
    assert!(!home.path("crontab.txt").exists());
    std::fs::write(home.path("slow"), "").expect("the folder is ours");
    let mut terminal = all_again();
    terminal.chooses(0).is_asked("Hours between two checks").types("6");
    until("the entry is being written", || home.path("slow.begun").exists());
    terminal.kill();
    std::fs::remove_file(home.path("slow")).expect("it is there");
    assert!(!home.path("crontab.txt").exists());
    assert_eq!(value(&home.read(".env"), "RUN_INTERVAL_HOURS").as_deref(), Some("6"));
    let mut terminal = all_again();
    terminal.chooses(0).is_asked("Hours between two checks").takes().sees("The check will run every 6 h");
    terminal.ends(0);
    assert_eq!(home.read("crontab.txt").lines().count(), 1, "one entry, whole");
    let env = home.read(".env");
    assert_eq!(value(&env, "GHL_STORE").as_deref(), Some("sqlite:mine.db"));
    assert_eq!(value(&env, "MICROSERVICE_NAME").as_deref(), Some("NIGHT"));
    assert_eq!(value(&env, "GHL_HEALTH_CHECK_TAG_NAME").as_deref(), Some("Status:Night"));
    keys.extend(value(&env, "GHL_AUTH_KEY"));
    keys.dedup();
    assert_eq!(keys.len(), 1, "the key is made once");
    let names = std::fs::read_dir(home.path("")).expect("a folder").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".env.")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn whoever_wants_a_dashboard_has_systemd_keep_the_service() {
    let (home, _log) = with_a_crontab(newcomer());
    let home = with_systemd(home).set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    home.sandbox.set_scopes(SCOPES);
    let Some(mut terminal) = Terminal::open_apart(&home) else { return };
    answer_up_to_the_login(&mut terminal, &home);
    terminal.sees("/v2/oauth/chooselocation").pastes(&code(&home)).sees("Connected: ");
    terminal.is_asked("Name of this service").takes();
    terminal.is_asked("Contact of the health check").types(&home.sandbox.settings().contact_id);
    terminal.is_asked("Tag of the health check").takes().sees("operational");
    std::fs::write(home.path("offline"), "").expect("the folder is ours");
    terminal.is_asked("What is to repeat the check?").chooses(2);
    terminal.is_asked("Hours between two checks").types("5");
    // Where there is no systemd, that is said, and the question comes again.
    terminal.sees("systemd does not run here").sees("ghl-auth schedule install");
    std::fs::remove_file(home.path("offline")).expect("it is there");
    terminal.is_asked("What is to repeat the check?").chooses(2);
    terminal.is_asked("Hours between two checks").takes();
    terminal.sees("The service runs, and starts with the machine");
    terminal.sees("ghl-auth schedule remove --service").sees("`ghl-auth dashboard` prints a link");
    let said = terminal.ends(0);
    assert!(said.contains("Done."), "{said}");
    assert_eq!(value(&home.read(".env"), "RUN_INTERVAL_HOURS").as_deref(), Some("5"));
    let calls = home.read("calls");
    assert!(calls.ends_with("enable ghl-auth.service\nrestart ghl-auth.service\n"), "{calls}");
}

#[test]
fn ctrl_c_keeps_what_was_answered() {
    let home = newcomer();
    let mut terminal = Terminal::open(&home, &["--lang", "en"]);
    terminal.is_asked("Client id").types(&home.sandbox.settings().client_id);
    terminal.is_asked("Client secret").interrupts();
    let said = terminal.ends(1);
    assert!(said.contains("Your answers are kept") && said.contains("init_interrupted"), "{said}");
    assert_eq!(value(&home.read(".env"), "GHL_CLIENT_ID"), Some(home.sandbox.settings().client_id.clone()));
}

#[test]
fn whoever_consents_for_another_location_is_asked_which_is_meant() {
    let home = newcomer();
    let meant = home.sandbox.settings().location_id.clone();
    let mut terminal = Terminal::open(&home, &[]);
    let settings = home.sandbox.settings();
    terminal.is_asked("Language / Idioma").takes();
    terminal.is_asked("Client id").types(&settings.client_id);
    terminal.is_asked("Client secret").types(&settings.client_secret);
    terminal.is_asked("Redirect address").types(ELSEWHERE);
    terminal.is_asked("Location ID").types("AbCdEfGhIjKlMnOpQrSt");
    terminal.is_asked("Where the tokens rest").takes();
    terminal.sees("/v2/oauth/chooselocation").pastes(&code(&home));
    terminal.sees(&format!("are of location {meant}, and you named AbCdEfGhIjKlMnOpQrSt"));
    terminal.sees("authorize again").takes().sees("Connected: ");
    terminal.is_asked("Name of this service").interrupts();
    terminal.ends(1);
    assert_eq!(value(&home.read(".env"), "GHL_LOCATION_ID"), Some(meant));
}

#[test]
fn a_check_that_fails_ends_it_and_everything_is_kept_for_the_next_time() {
    let home = newcomer();
    home.sandbox.set_scopes(["contacts.readonly", "locations.readonly"]);
    let mut terminal = Terminal::open(&home, &[]);
    answer_up_to_the_login(&mut terminal, &home);
    terminal.sees("/v2/oauth/chooselocation").pastes(&code(&home)).sees("Connected: ");
    terminal.is_asked("Name of this service").takes();
    terminal.is_asked("Contact of the health check").types("new@example.com").sees("Make one?").takes();
    terminal.sees("lacks the scope contacts.write");
    terminal.is_asked("Contact of the health check").types(&home.sandbox.settings().contact_id);
    terminal.is_asked("Tag of the health check").takes();
    terminal.sees("scope_missing").sees("run `ghl-auth init` again");
    terminal.ends(1);
}

#[test]
fn a_code_that_comes_to_this_machine_leaves_the_keyboard_to_the_next_question() {
    let home = newcomer();
    let settings = home.sandbox.settings().clone();
    let callback = format!("http://127.0.0.1:{}/oauth/callback", crate::support::free_port());
    let mut terminal = Terminal::open(&home, &["--redirect-uri", &callback]);
    terminal.is_asked("Language / Idioma").takes();
    terminal.is_asked("Client id").types(&settings.client_id);
    terminal.is_asked("Client secret").types(&settings.client_secret);
    terminal.is_asked("Location ID").types(&settings.location_id);
    terminal.is_asked("Where the tokens rest").takes();
    terminal.sees("&state=").sees("Waiting for the redirect");
    let state = terminal.shown.rsplit("&state=").next().expect("a state");
    let state: String =
        state.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let code = home.sandbox.approve(&callback, Some(&state), UserType::Location);
    let page = http("GET", &format!("{callback}?code={code}&state={state}"), &[], "");
    assert_eq!(page.status, 200, "{page:?}");
    terminal.is_asked("Name of this service").types("FIRST-TIME");
    terminal.is_asked("Contact of the health check").interrupts();
    terminal.ends(1);
    assert_eq!(value(&home.read(".env"), "MICROSERVICE_NAME").as_deref(), Some("FIRST-TIME"));
}

#[test]
fn whoever_is_asked_to_end_ends_at_any_question_and_leaves_the_terminal_in_order() {
    let home = newcomer();
    let mut terminal = Terminal::open(&home, &[]);
    terminal.is_asked("Language / Idioma");
    assert!(!terminal.is_in_order(), "the question reads key by key");
    terminal.terminate().sees("The set-up was interrupted").ends(1);
    assert!(terminal.is_in_order(), "before anything was waited for");

    let mut terminal = Terminal::open(&home, &[]);
    answer_up_to_the_login(&mut terminal, &home);
    terminal.sees("/v2/oauth/chooselocation").terminate();
    terminal.sees("The set-up was interrupted").ends(1);

    let mut terminal = Terminal::open(&home, &[]);
    answer_up_to_the_login(&mut terminal, &home);
    terminal.sees("/v2/oauth/chooselocation").interrupts();
    terminal.sees("The set-up was interrupted").ends(1);

    let mut terminal = Terminal::open(&home, &[]);
    answer_up_to_the_login(&mut terminal, &home);
    terminal.sees("/v2/oauth/chooselocation").pastes(&code(&home));
    terminal.is_asked("Name of this service").terminate();
    terminal.sees("The set-up was interrupted").ends(1);
    assert!(terminal.is_in_order(), "after a login, too");
}

#[test]
fn tokens_of_the_template_can_be_taken_along() {
    let home = newcomer();
    let other = Home::connected();
    home.write("ghl_tokens.json", &other.read("ghl_tokens.json"));
    let settings = home.sandbox.settings().clone();
    let mut terminal = Terminal::open(&home, &["--store", "sqlite:mine.db"]);
    terminal.is_asked("Language / Idioma").takes();
    terminal.is_asked("Client id").types(&settings.client_id);
    terminal.is_asked("Client secret").types(&settings.client_secret);
    terminal.is_asked("Redirect address").types(ELSEWHERE);
    terminal.is_asked("Location ID").types(&settings.location_id);
    terminal.sees("ghl-auth import ghl_tokens.json").sees("/v2/oauth/chooselocation").interrupts();
    terminal.ends(1);
    home.run(["import", "ghl_tokens.json"]).good();
    let mut terminal = Terminal::open(&home, &["--yes"]);
    let said = terminal.ends(1);
    assert!(!said.contains("init_login"), "nobody has to consent: {said}");
}
