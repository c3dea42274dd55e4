//! A user of two apps: one without a name, and one called `crm`.

use std::process::Command;

use sandbox::{Sandbox, Settings, UserType};
use serde_json::Value;

use crate::support::{ELSEWHERE, Home, Running};
use crate::wire::{Answer, ask, bearer, request};

/// Where browsers come back to the second app.
pub(crate) const BACK_AT_CRM: &str = "https://example.com/apps/crm/oauth/callback";

pub(crate) struct Town {
    pub(crate) home: Home,
    /// The second app's HighLevel; the first one's is the home's own.
    pub(crate) crm: Sandbox,
}

impl Town {
    /// Two apps, and no grant yet.
    pub(crate) fn new() -> Self {
        let home = Home::new().sealed();
        let crm = sandbox_beside(&home);
        let home = home
            .set("GHL_APPS", "crm")
            .set("GHL_APP_CRM_CLIENT_ID", &crm.settings().client_id)
            .set("GHL_APP_CRM_CLIENT_SECRET", &crm.settings().client_secret)
            .set("GHL_APP_CRM_REDIRECT_URI", BACK_AT_CRM)
            .set("GHL_APP_CRM_API_BASE_URL", &crm.base_url())
            .set("GHL_APP_CRM_AUTHORIZE_URL", &crm.authorize_url())
            .set("GHL_AUTH_LISTEN", "127.0.0.1:0")
            .set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0");
        Self { home, crm }
    }

    /// Both apps have been authorised.
    pub(crate) fn connected() -> Self {
        let town = Self::new();
        town.home.run(["login", "--code", &town.home.code(UserType::Location)]).good();
        town.home.run(["--app", "crm", "login", "--code", &town.crm_code()]).good();
        town
    }

    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        Self { home: self.home.set(name, value), ..self }
    }

    /// A code of someone who has just agreed to the second app.
    pub(crate) fn crm_code(&self) -> String {
        self.crm.approve(BACK_AT_CRM, None, UserType::Location)
    }

    /// A new key of an app, for everything.
    pub(crate) fn key(&self, app: &str, name: &str) -> String {
        let verbs = ["--verb", "token", "--verb", "admin"];
        let run =
            self.home.run([&["--app", app, "keys", "create", "--name", name, "--all"][..], &verbs].concat());
        run.good().out.trim().to_owned()
    }

    pub(crate) fn serve(&self) -> Served {
        Served::start(self.home.command(["serve"]))
    }

    pub(crate) fn token_path(&self) -> String {
        format!("/v1/locations/{}/token", self.home.location())
    }
}

/// Another HighLevel in which the location has the same id.
pub(crate) fn sandbox_beside(home: &Home) -> Sandbox {
    let settings = Settings { location_id: home.location().to_owned(), ..Settings::seeded(43) };
    let sandbox = Sandbox::builder().settings(settings).start_blocking().expect("a free port");
    sandbox.set_scopes(["contacts.readonly", "contacts.write", "locations.readonly"]);
    sandbox
}

/// How often a HighLevel was asked for the tokens of a code.
pub(crate) fn exchanges(sandbox: &Sandbox) -> usize {
    let ledger = sandbox.ledger();
    ledger.token_requests.iter().filter(|asked| asked.grant_type == "authorization_code").count()
}

/// A service, ended with the test.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) private: String,
    pub(crate) public: String,
}

impl Served {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(std::process::Stdio::piped());
        let mut running = Running::start(command);
        running.until_it_says("Browsers come back here: http://127.0.0.1:");
        let said = running.until_it_says("Programs ask here: http://127.0.0.1:");
        let address = |words: &str| {
            let line = said.lines().find(|line| line.contains(words)).expect("it says so");
            let address = line.split_once("http://").expect("an address").1;
            address.split('/').next().expect("an address").trim().to_owned()
        };
        let (private, public) = (address("Programs ask here"), address("Browsers come back here"));
        Self { running, private, public }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        ask(&self.private, &request(method, path, &[("Authorization", &bearer(key))], body))
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> Answer {
        self.ask("GET", path, key, "")
    }

    /// The token behind a path.
    #[track_caller]
    pub(crate) fn token(&self, path: &str, key: &str) -> String {
        let answer = self.get(path, key);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        body["access_token"].as_str().expect("a token").to_owned()
    }

    /// Ends it, and gives its log.
    pub(crate) fn end(mut self) -> String {
        self.running.signal("TERM");
        self.running.until_it_ends();
        let said = self.running.said();
        assert!(!said.contains("panicked") && !said.contains("broke off inside"), "{said}");
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // After a test that failed; one that has ended by itself is gone already.
        self.running.child.kill().ok();
        self.running.child.wait().ok();
    }
}

/// The path of the address that the first app's users come back to.
pub(crate) fn back_at_first() -> &'static str {
    ELSEWHERE.strip_prefix("https://example.com").expect("its path")
}
