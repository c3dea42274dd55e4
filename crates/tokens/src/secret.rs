//! Values that never print themselves.
//!
//! A secret has no `Display` and no `Serialize`; its `Debug` shows its type only, and its memory is
//! wiped when it is dropped. `expose` is the one way to the text, so `grep expose` lists every use.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SecretString);

        impl $name {
            /// Takes the text in and keeps it from being printed.
            pub fn new(text: impl Into<String>) -> Self {
                Self(SecretString::from(text.into()))
            }

            /// The text itself, for the line that signs a request, seals a row or hands a token out.
            pub fn expose(&self) -> &str {
                self.0.expose_secret()
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.expose() == other.expose()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

secret!(
    /// What a request to HighLevel carries as its bearer; lives about a day.
    AccessToken
);
secret!(
    /// What buys the next pair of tokens, once; lives a year or until it is used.
    RefreshToken
);
secret!(
    /// The marketplace app's secret, with which every grant of the app can be refreshed.
    ClientSecret
);
secret!(
    /// What the consent page hands back: exchanged once, within seconds.
    AuthorizationCode
);
secret!(
    /// HighLevel's answer to a token request, word for word: it holds both tokens.
    AnswerBody
);
secret!(
    /// The members of a token reply that are no tokens, as a JSON object's text, kept as they came.
    ReplyMembers
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_type_only() {
        let shown = format!("{:?} {:?}", AccessToken::new("eyJ-secret"), RefreshToken::new("eyJ-secret"));
        assert_eq!(shown, "AccessToken RefreshToken");
    }
}
