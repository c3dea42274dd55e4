//! The variables there are: names that users rely on.
//!
//! What each is for stands in the locales as `var-NAME`, for errors and for `.env.example`.

/// A variable and an example of a good value.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
    /// Whether `NAME_FILE` may hold it.
    pub(crate) secret: bool,
    pub(crate) whose: Whose,
}

/// Whom a setting is about, where several apps are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The whole program.
    Everyones,
    /// One app; a named one has a variable of its own, or none.
    EachApps,
    /// One app, and without a word about it the whole program.
    EachAppsOrEveryones,
}

const fn plain(name: &'static str, example: &'static str) -> Variable {
    Variable { name, example, secret: false, whose: Whose::Everyones }
}

const fn secret(name: &'static str, example: &'static str) -> Variable {
    Variable { name, example, secret: true, whose: Whose::Everyones }
}

impl Variable {
    const fn of_each_app(self) -> Self {
        Self { whose: Whose::EachApps, ..self }
    }

    const fn of_each_app_or_all(self) -> Self {
        Self { whose: Whose::EachAppsOrEveryones, ..self }
    }
}

/// All of them, in the order in which people meet them.
pub(crate) const ALL: [Variable; 54] = [
    plain("GHL_CLIENT_ID", "0123456789abcdef01234567-abcd1234").of_each_app(),
    secret("GHL_CLIENT_SECRET", "00000000-0000-4000-8000-000000000000").of_each_app(),
    plain("GHL_REDIRECT_URI", "https://example.com/oauth/callback").of_each_app(),
    plain("GHL_LOCATION_ID", "AbCdEfGhIjKlMnOpQrSt").of_each_app(),
    plain("GHL_HEALTH_CHECK_CONTACT_ID", "AbCdEfGhIjKlMnOpQrSt").of_each_app(),
    plain("GHL_HEALTH_CHECK_TAG_NAME", "Status:Online-AuthService").of_each_app(),
    plain("MICROSERVICE_NAME", "AuthServicePadrao"),
    plain("RUN_INTERVAL_HOURS", "12"),
    plain("GHL_APPS", "billing, crm"),
    plain("GHL_APP", "billing"),
    secret("GHL_AUTHORIZATION_CODE", "0123456789abcdef0123456789abcdef01234567").of_each_app(),
    secret("GHL_STORE", "file:ghl_tokens.json"),
    secret("GHL_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    secret("GHL_AUTH_OLD_KEYS", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    plain("GHL_AUTH_SPOOL", "/var/lib/ghl-auth/spool"),
    plain("GHL_API_BASE_URL", "https://services.leadconnectorhq.com").of_each_app_or_all(),
    plain("GHL_AUTHORIZE_URL", "https://marketplace.gohighlevel.com/v2/oauth/chooselocation").of_each_app(),
    plain("GHL_API_VERSION", "2021-07-28").of_each_app_or_all(),
    plain("GHL_USER_TYPE", "Location").of_each_app(),
    plain("GHL_SCOPES", "contacts.readonly contacts.write").of_each_app(),
    secret("GHL_PRIVATE_TOKEN", "pit-00000000-0000-4000-8000-000000000000").of_each_app(),
    plain("GHL_AUTH_LISTEN", "127.0.0.1:8787"),
    plain("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:8786"),
    plain("GHL_AUTH_HOSTS", "auth.example.com"),
    plain("GHL_AUTH_TLS_CERT", "/etc/ghl-auth/tls.crt"),
    plain("GHL_AUTH_TLS_KEY", "/etc/ghl-auth/tls.key"),
    plain("GHL_AUTH_INSTALLS", "approve"),
    plain("GHL_AUTH_ALLOWED_INSTALLS", "AbCdEfGhIjKlMnOpQrSt"),
    secret("GHL_WEBHOOK_PUBLIC_KEYS", "MCowBQYDK2VwAyEAi2HR1srL4o18O8BRa7gVJY7G7bupbN3H9AwJrHCDiOg="),
    plain("GHL_WEBHOOK_LEGACY_RSA", "on"),
    secret("GHL_WEBHOOK_RSA_PUBLIC_KEY", "MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEA..."),
    plain("GHL_AUTH_AUDIT", "counted"),
    plain("GHL_AUTH_STATUS_PAGE", "on"),
    plain("GHL_AUTH_GATEWAY_BUDGET", "enforce"),
    plain("GHL_AUTH_GATEWAY_LIMITS", "app"),
    plain("GHL_AUTH_GATEWAY_HTTP", "1.1"),
    plain("GHL_AUTH_GATEWAY_MAX_BODY_MIB", "10"),
    plain("GHL_AUTH_GATEWAY_AT_ONCE", "256"),
    plain("GHL_HEALTH_CHECK_FAILURE_TAG_NAME", "Status:Trouble-AuthService").of_each_app(),
    plain("GHL_ALERT_AFTER", "2"),
    plain("GHL_ALERT_REMIND_HOURS", "24"),
    secret("GHL_NOTIFY_WEBHOOK_URL", "https://alerts.example.com/ghl-auth"),
    secret("GHL_NOTIFY_WEBHOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    secret("GHL_NOTIFY_SLACK_URL", "https://hooks.slack.com/services/T000/B000/XXXX"),
    secret("GHL_NOTIFY_DISCORD_URL", "https://discord.com/api/webhooks/000/XXXX"),
    secret("GHL_NOTIFY_TELEGRAM_URL", "https://api.telegram.org/botTOKEN/sendMessage?chat_id=000"),
    secret("GHL_NOTIFY_SMTP_URL", "smtps://user%40example.com:password@mail.example.com:465"),
    plain("GHL_NOTIFY_EMAIL_TO", "me@example.com, us@example.com"),
    plain("GHL_NOTIFY_EMAIL_FROM", "ghl-auth@example.com"),
    plain("GHL_NOTIFY_ALLOW_PRIVATE", "true"),
    secret("GHL_HEARTBEAT_URL", "https://hc-ping.com/00000000-0000-4000-8000-000000000000").of_each_app(),
    plain("GHL_AUTH_LANG", "pt-BR"),
    plain("GHL_AUTH_LOG", "info"),
    plain("GHL_AUTH_LOG_FORMAT", "human"),
];

/// The variable called `name`, one of `ALL`.
pub(crate) fn named(name: &str) -> &'static Variable {
    ALL.iter().find(|variable| variable.name == name).expect("a variable of the list above")
}

/// The variable that `name` is, or that it is for a named app.
fn meant_by(name: &str) -> Option<&'static Variable> {
    let named = name.strip_prefix("GHL_APP_").unwrap_or_default();
    let is_apps = |variable: &Variable| {
        let rest = variable.name.strip_prefix("GHL_").unwrap_or(variable.name);
        let app = named.strip_suffix(rest).and_then(|app| app.strip_suffix('_')).unwrap_or_default();
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        variable.whose != Whose::Everyones && !app.is_empty() && app.chars().all(plain)
    };
    ALL.iter().find(|variable| variable.name == name || is_apps(variable))
}

/// Whether `NAME_FILE` may hold the value.
pub(crate) fn is_secret(name: &str) -> bool {
    meant_by(name).is_some_and(|variable| variable.secret)
}

/// Whether the name is one of ours, or points to one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    let pointed = name.strip_suffix("_FILE").filter(|pointed| is_secret(pointed));
    pointed.is_some() || meant_by(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_apps_variables_are_known_by_their_ends() {
        let check = |name: &str, ours, secret| {
            assert_eq!((is_ours(name), is_secret(name)), (ours, secret), "{name}");
        };
        check("GHL_CLIENT_ID", true, false);
        check("GHL_CLIENT_SECRET", true, true);
        check("GHL_APP", true, false);
        check("GHL_APP_CRM_CLIENT_ID", true, false);
        check("GHL_APP_CRM_2_CLIENT_SECRET", true, true);
        check("GHL_APP_CRM_CLIENT_SECRET_FILE", true, false);
        check("GHL_APP_CRM_API_BASE_URL", true, false);
        check("GHL_APP_CRM_STORE", false, false);
        check("GHL_APP_CRM_AUTH_KEY", false, false);
        check("GHL_APP_CLIENT_SECRET", false, false);
        check("GHL_APP__CLIENT_SECRET", false, false);
        check("GHL_APP_crm_CLIENT_SECRET", false, false);
    }

    /// Otherwise one name could be two apps' variables.
    #[test]
    fn no_variable_of_an_app_ends_as_another_does() {
        let of_apps = || ALL.iter().filter(|variable| variable.whose != Whose::Everyones);
        for one in of_apps() {
            let rest = one.name.strip_prefix("GHL_").expect("the prefix of all that are an app's");
            let alike = of_apps().filter(|other| other.name.ends_with(&format!("_{rest}"))).count();
            assert_eq!(alike, 1, "{}", one.name);
        }
    }
}
