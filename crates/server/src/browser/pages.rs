//! The few pages that a person sees on the way: plain, without script, style or anything from
//! elsewhere.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use upkeep::Speech;

/// A page: its sentences are `page-NAME` and `page-NAME.more`.
pub(super) struct Page {
    status: StatusCode,
    lang: String,
    title: String,
    more: String,
    words: Option<String>,
    button: Option<String>,
    leads_to: Option<String>,
}

impl Page {
    pub(super) fn new(speech: &dyn Speech, status: StatusCode, name: &str) -> Self {
        Self {
            status,
            lang: speech.say("page-language", &[]),
            title: speech.say(&format!("page-{name}"), &[]),
            more: speech.say(&format!("page-{name}.more"), &[]),
            words: None,
            button: None,
            leads_to: None,
        }
    }

    /// Someone else's words, to be shown as they are and never to be believed.
    pub(super) fn with_words(mut self, words: &str) -> Self {
        self.words = Some(words.chars().take(300).collect());
        self
    }

    /// A button that posts one value back to us.
    pub(super) fn with_button(mut self, speech: &dyn Speech, path: &str, name: &str, value: &str) -> Self {
        self.button = Some(format!(
            "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"{name}\" value=\"{}\">\
             <button>{}</button></form>",
            escape(path),
            escape(value),
            escape(&speech.say("page-button", &[])),
        ));
        self
    }

    /// Where the answer to the button sends the browser on to.
    pub(super) fn leading_to(mut self, origin: &str) -> Self {
        self.leads_to = Some(origin.to_owned());
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let words = self.words.map(|words| format!("<blockquote>{}</blockquote>", escape(&words)));
        let body = format!(
            "<!doctype html><html lang=\"{}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{1}</title></head>\
             <body><main><h1>{1}</h1><p>{2}</p>{3}{4}</main></body></html>",
            escape(&self.lang),
            escape(&self.title),
            escape(&self.more),
            words.unwrap_or_default(),
            self.button.unwrap_or_default(),
        );
        let mut response = (self.status, Html(body)).into_response();
        protect(response.headers_mut());
        if let Some(origin) = self.leads_to
            && let Ok(policy) = HeaderValue::try_from(policy(&format!("'self' {origin}")))
        {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

fn policy(form_action: &str) -> String {
    format!("default-src 'none'; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'")
}

/// What every page carries.
pub(super) fn protect(headers: &mut HeaderMap) {
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    );
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
}

/// A text as it stands in HTML or XML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no room for these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
