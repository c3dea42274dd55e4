//! What is secret can't be printed or written down by accident: the compiler sees to it.

use std::fmt::{Debug, Display};
use std::marker::PhantomData;

use serde::Serialize;
use tokens::{AccessToken, AnswerBody, AuthorizationCode, ClientSecret, RefreshToken, ReplyMembers};

struct Asked<T>(PhantomData<T>);

/// Holds for whatever the more particular answers below don't hold for.
trait Otherwise {
    const IS_SHOWN: bool = false;
    const IS_WRITTEN: bool = false;
}

impl<T> Otherwise for Asked<T> {}

impl<T: Display> Asked<T> {
    const IS_SHOWN: bool = true;
}

impl<T: Serialize> Asked<T> {
    const IS_WRITTEN: bool = true;
}

macro_rules! neither_shown_nor_written {
    ($($secret:ty),* $(,)?) => {
        $(
            const { assert!(!<Asked<$secret>>::IS_SHOWN, "it has a Display") };
            const { assert!(!<Asked<$secret>>::IS_WRITTEN, "it has a Serialize") };
        )*
    };
}

#[test]
fn a_secret_can_be_neither_shown_nor_written() {
    neither_shown_nor_written!(
        AccessToken,
        RefreshToken,
        ClientSecret,
        AuthorizationCode,
        AnswerBody,
        ReplyMembers,
        server::ApiKey,
        store::Key,
        store::Keys,
        highlevel::AppCredentials,
        highlevel::OAuth,
        tokens::TokenSet,
        tokens::Installation,
        tokens::RawAnswer,
        tokens::store::Landing,
        upkeep::Way,
        upkeep::Heartbeat,
    );
    // The question is one that can be answered with yes.
    const { assert!(<Asked<String>>::IS_SHOWN && <Asked<String>>::IS_WRITTEN) };
}

#[test]
fn what_a_debugger_shows_of_a_secret_is_its_type() {
    const TEXT: &str = "0c0ffee0-1234-4abc-8def-0123456789ab";
    const BYTES: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let shown = |secret: &dyn Debug| {
        let shown = format!("{secret:?} {secret:#?}");
        assert!(!shown.contains("c0ffee") && !shown.contains("q83v") && !shown.contains("171"), "{shown}");
    };
    shown(&AccessToken::new(TEXT));
    shown(&RefreshToken::new(TEXT));
    shown(&ClientSecret::new(TEXT));
    shown(&AuthorizationCode::new(TEXT));
    shown(&AnswerBody::new(TEXT));
    shown(&ReplyMembers::new(TEXT));
    let key = store::Key::parse(BYTES).expect("32 bytes");
    shown(&key);
    shown(&store::Keys { current: Some(key.clone()), old: vec![key] });
    let app = highlevel::AppCredentials {
        client_id: "app".into(),
        client_secrets: vec![ClientSecret::new(TEXT)],
        redirect_uri: "https://example.com/".into(),
        user_type: "Location",
    };
    shown(&app);
    let post = upkeep::Post::new(true);
    let to = post.address(&format!("http://127.0.0.1/{TEXT}")).expect("an address");
    shown(&upkeep::Way::webhook(post.clone(), to.clone(), Some(&format!("whsec_{BYTES}"))).expect("a way"));
    for way in [upkeep::Way::slack, upkeep::Way::discord, upkeep::Way::telegram] {
        shown(&way(post.clone(), to.clone()));
    }
    shown(&upkeep::Heartbeat::at(post, &format!("http://127.0.0.1/{TEXT}")).expect("an address"));
    let key = server::ApiKey::generate();
    assert!(!format!("{key:?}").contains(&key.expose()[13..20]));
}
