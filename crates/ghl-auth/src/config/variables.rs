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
}

const fn plain(name: &'static str, example: &'static str) -> Variable {
    Variable { name, example, secret: false }
}

const fn secret(name: &'static str, example: &'static str) -> Variable {
    Variable { name, example, secret: true }
}

/// All of them, in the order in which people meet them.
pub(crate) const ALL: [Variable; 45] = [
    plain("GHL_CLIENT_ID", "0123456789abcdef01234567-abcd1234"),
    secret("GHL_CLIENT_SECRET", "00000000-0000-4000-8000-000000000000"),
    plain("GHL_REDIRECT_URI", "https://example.com/oauth/callback"),
    plain("GHL_LOCATION_ID", "AbCdEfGhIjKlMnOpQrSt"),
    plain("GHL_HEALTH_CHECK_CONTACT_ID", "AbCdEfGhIjKlMnOpQrSt"),
    plain("GHL_HEALTH_CHECK_TAG_NAME", "Status:Online-AuthService"),
    plain("MICROSERVICE_NAME", "AuthServicePadrao"),
    plain("RUN_INTERVAL_HOURS", "12"),
    secret("GHL_AUTHORIZATION_CODE", "0123456789abcdef0123456789abcdef01234567"),
    secret("GHL_STORE", "file:ghl_tokens.json"),
    secret("GHL_AUTH_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    secret("GHL_AUTH_OLD_KEYS", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    plain("GHL_API_BASE_URL", "https://services.leadconnectorhq.com"),
    plain("GHL_AUTHORIZE_URL", "https://marketplace.gohighlevel.com/v2/oauth/chooselocation"),
    plain("GHL_API_VERSION", "2021-07-28"),
    plain("GHL_USER_TYPE", "Location"),
    plain("GHL_SCOPES", "contacts.readonly contacts.write"),
    secret("GHL_PRIVATE_TOKEN", "pit-00000000-0000-4000-8000-000000000000"),
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
    plain("GHL_HEALTH_CHECK_FAILURE_TAG_NAME", "Status:Trouble-AuthService"),
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
    secret("GHL_HEARTBEAT_URL", "https://hc-ping.com/00000000-0000-4000-8000-000000000000"),
    plain("GHL_AUTH_LANG", "pt-BR"),
    plain("GHL_AUTH_LOG", "info"),
    plain("GHL_AUTH_LOG_FORMAT", "human"),
];

/// The variable called `name`, one of `ALL`.
pub(crate) fn named(name: &str) -> &'static Variable {
    ALL.iter().find(|variable| variable.name == name).expect("a variable of the list above")
}

/// Whether `NAME_FILE` may hold the value.
pub(crate) fn is_secret(name: &str) -> bool {
    ALL.iter().any(|variable| variable.secret && variable.name == name)
}

/// Whether the name is one of ours, or points to one of ours.
pub(crate) fn is_ours(name: &str) -> bool {
    let pointed = name.strip_suffix("_FILE").filter(|pointed| is_secret(pointed));
    pointed.is_some() || ALL.iter().any(|variable| variable.name == name)
}
