//! A terminal with `init` in it, and someone who reads and types.

use std::process::Command;
use std::time::{Duration, Instant};

use expectrl::process::unix::{Signal, WaitStatus};
use expectrl::session::OsSession;
use expectrl::{Eof, Expect, Session};

use crate::support::Home;

const ENTER: &str = "\r";
const DOWN: &str = "\u{1b}[B";

pub(crate) struct Terminal {
    session: OsSession,
    /// Everything that was shown up to the last words waited for.
    pub(crate) shown: String,
}

impl Terminal {
    pub(crate) fn open(home: &Home, arguments: &[&str]) -> Self {
        Self::open_with(home, arguments, &[])
    }

    /// The same where root's units go to a folder that is there for this terminal only. None where that
    /// can't be made.
    pub(crate) fn open_apart(home: &Home) -> Option<Self> {
        const APART: [&str; 5] = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /etc/systemd/system && exec \"$0\" \"$@\"",
        ];
        if !nix::unistd::geteuid().is_root() {
            return Some(Self::open(home, &[]));
        }
        let mut tried = Command::new(APART[0]);
        let is_able = tried.args(&APART[1..]).arg("true").status().is_ok_and(|status| status.success());
        if !is_able {
            eprintln!("skipped: nothing can be mounted here, or there is no systemd");
        }
        is_able.then(|| Self::open_with(home, &[], &APART))
    }

    fn open_with(home: &Home, arguments: &[&str], within: &[&str]) -> Self {
        let arguments = [&["init", "--no-browser"], arguments].concat();
        let ours = home.command(arguments);
        let program = ours.get_program();
        let words: Vec<_> =
            within.iter().map(AsRef::as_ref).chain([program]).chain(ours.get_args()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(ours.get_current_dir().expect("a folder")).env_clear();
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let mut session = Session::spawn(command).expect("a terminal");
        // Its size stays as it is: a key that comes together with a change of it is heard with the next key.
        session.set_expect_timeout(Some(Duration::from_secs(60)));
        Self { session, shown: String::new() }
    }

    /// Waits until something is shown.
    #[track_caller]
    pub(crate) fn sees(&mut self, words: &str) -> &mut Self {
        match self.session.expect(words) {
            Ok(found) => {
                self.shown.push_str(&String::from_utf8_lossy(found.before()));
                self.shown.push_str(words);
            }
            Err(error) => {
                let mut rest = [0; 16 * 1024];
                let count = self.session.try_read(&mut rest).unwrap_or_default();
                let rest = String::from_utf8_lossy(&rest[..count]).into_owned();
                panic!("not `{words}` ({error}) after:\n{}\nbut:\n{rest}", self.shown);
            }
        }
        self
    }

    /// Waits for a question.
    #[track_caller]
    pub(crate) fn is_asked(&mut self, question: &str) -> &mut Self {
        self.sees(&format!("? {question} "))
    }

    pub(crate) fn types(&mut self, text: &str) -> &mut Self {
        self.session.send(format!("{text}{ENTER}")).expect("someone reads");
        self
    }

    /// A line for a program that reads lines.
    pub(crate) fn pastes(&mut self, text: &str) -> &mut Self {
        self.session.send(format!("{text}\n")).expect("someone reads");
        self
    }

    pub(crate) fn takes(&mut self) -> &mut Self {
        self.types("")
    }

    pub(crate) fn chooses(&mut self, steps_down: usize) -> &mut Self {
        self.types(&DOWN.repeat(steps_down))
    }

    pub(crate) fn interrupts(&mut self) -> &mut Self {
        self.session.send("\u{3}").expect("someone reads");
        self
    }

    /// Asks it to end, as a machine does that is shut down.
    pub(crate) fn terminate(&mut self) -> &mut Self {
        self.session.get_process_mut().signal(Signal::SIGTERM).expect("it is ours");
        self
    }

    /// Whether it takes whole lines, as every terminal does that no program has taken over.
    pub(crate) fn is_in_order(&self) -> bool {
        let terminal = self.session.get_process().get_raw_handle().expect("a terminal");
        let modes = nix::sys::termios::tcgetattr(terminal).expect("its modes");
        modes.local_flags.contains(nix::sys::termios::LocalFlags::ICANON)
    }

    /// Ends it at once, as a machine does that goes down.
    pub(crate) fn kill(mut self) {
        self.session.get_process_mut().signal(Signal::SIGKILL).expect("it is ours");
        self.status();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ends(&mut self, code: i32) -> String {
        match self.session.expect(Eof) {
            Ok(found) => self.shown.push_str(&String::from_utf8_lossy(found.as_bytes())),
            Err(error) => panic!("no end ({error}) after:\n{}", self.shown),
        }
        let status = self.status();
        assert!(
            matches!(status, WaitStatus::Exited(_, ended) if ended == code),
            "{status:?}:\n{}",
            self.shown
        );
        self.shown.clone()
    }

    fn status(&self) -> WaitStatus {
        let began = Instant::now();
        loop {
            match self.session.get_process().status() {
                Ok(WaitStatus::StillAlive) if began.elapsed() < Duration::from_secs(30) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                status => return status.expect("it is ours"),
            }
        }
    }
}
