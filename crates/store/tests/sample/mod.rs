//! Tokens of the shape and size that HighLevel's have, invented.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use store::{Key, Keys};
use tokens::store::{ClaimRequest, Commit, FlightId, Landing};
use tokens::{
    AccessToken, AnswerBody, Installation, InstallationId, RefreshBy, RefreshToken, ReplyMembers, Store,
    Timestamp, TokenSet,
};

pub(crate) const START: Timestamp = Timestamp::from_millis(1_790_000_000_123);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn location() -> InstallationId {
    InstallationId::from_parts("location", "BBBBBBBBBBBBBBBBBBBB").expect("an id")
}

pub(crate) fn other_location() -> InstallationId {
    InstallationId::from_parts("location", "DDDDDDDDDDDDDDDDDDDD").expect("an id")
}

pub(crate) fn company() -> InstallationId {
    InstallationId::from_parts("company", "AAAAAAAAAAAAAAAAAAAA").expect("an id")
}

/// Some 5 KB, as 120 scopes make it.
pub(crate) fn jwt(id: &InstallationId, name: &str, issued_at: Timestamp, life: Duration) -> String {
    let seconds = |at: Timestamp| at.as_millis() as f64 / 1000.0;
    let scopes: Vec<String> = (0..120).map(|n| format!("\"objects/record{n}.readonly\"")).collect();
    let claims = format!(
        r#"{{"authClass":"{}","authClassId":"{}","uniqueId":"{name}","source":"INTEGRATION","oauthMeta":{{"scopes":[{}]}},"iat":{:.3},"exp":{:.3}}}"#,
        id.user_type(),
        id.as_str(),
        scopes.join(","),
        seconds(issued_at),
        seconds(issued_at + life),
    );
    let signature = format!("{name:s<256}");
    format!(
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{}.{}",
        URL_SAFE_NO_PAD.encode(claims),
        URL_SAFE_NO_PAD.encode(signature)
    )
}

pub(crate) fn tokens(id: &InstallationId, name: &str, issued_at: Timestamp) -> TokenSet {
    let scope = "contacts.readonly contacts.write locations.readonly";
    let resource = match id {
        InstallationId::Location(location) => format!(r#""locationId":"{location}","#),
        InstallationId::Company(_) => String::new(),
    };
    TokenSet {
        access: AccessToken::new(jwt(id, &format!("access-{name}"), issued_at, DAY)),
        refresh_by: RefreshBy::Own(RefreshToken::new(jwt(
            id,
            &format!("refresh-{name}"),
            issued_at,
            DAY * 365,
        ))),
        issued_at,
        expires_at: issued_at + DAY,
        scopes: scope.to_owned(),
        company: Some("AAAAAAAAAAAAAAAAAAAA".parse().expect("an id")),
        members: ReplyMembers::new(format!(
            r#"{{"token_type":"Bearer","expires_in":86399,"scope":"{scope}","refreshTokenId":"0123456789abcdef01234567","userType":"{}","companyId":"AAAAAAAAAAAAAAAAAAAA",{resource}"isBulkInstallation":false,"userId":"CCCCCCCCCCCCCCCCCCCC","note":"ação"}}"#,
            id.user_type()
        )),
    }
}

pub(crate) fn refresh_token(tokens: &TokenSet) -> RefreshToken {
    tokens.refresh_token().expect("a refresh token of its own").clone()
}

pub(crate) fn flight(name: &str) -> FlightId {
    FlightId(name.to_owned())
}

pub(crate) fn claim(installation: &Installation, name: &str, now: Timestamp) -> ClaimRequest {
    ClaimRequest { flight: flight(name), id: installation.id.clone(), seen: installation.version, now }
}

pub(crate) fn commit(
    store: &dyn Store,
    from: &Installation,
    name: &str,
    tokens: TokenSet,
    now: Timestamp,
) -> Commit {
    Commit {
        flight: flight(name),
        id: from.id.clone(),
        version: from.version,
        replaces: store.fingerprint(&refresh_token(&from.tokens)),
        tokens,
        now,
    }
}

pub(crate) fn landing(store: &dyn Store, from: &Installation, received_at: Timestamp) -> Landing {
    let body = format!(r#"{{"access_token":"{}"}}"#, jwt(&from.id, "landed", received_at, DAY)).repeat(2);
    Landing {
        id: Some(from.id.clone()),
        version: from.version,
        replaces: Some(store.fingerprint(&refresh_token(&from.tokens))),
        unasked: false,
        received_at,
        status: 200,
        body: AnswerBody::new(body),
    }
}

pub(crate) fn new_key() -> Key {
    Key::parse(&Key::generate()).expect("a key")
}

pub(crate) fn sealed_by(key: &Key) -> Keys {
    Keys { current: Some(key.clone()), old: Vec::new() }
}
