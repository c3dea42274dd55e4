//! Secrets that are planted, and looked for wherever they must not be.
//!
//! What the binary says at `trace` in both forms of log, what `ps` shows of it and what it leaves on
//! disk is searched for each secret as it is, in base64, base64url, hex and percent-encoding,
//! reversed, and for any twelve bytes of those. A JWT's header is public and the same in all of them.
//!
//! These are meant to show a secret, and nothing else is: of the commands, the answers of `token`,
//! `export`, `exec` and `keys create`, the `state` within the consent page's address, and a `file:`
//! store without a key; of the service, the answer to whoever asks for a token (its access token
//! alone), the link that `POST /oauth/links` makes, the `state` and the cookie that a browser is sent
//! off with, and the code in the button of the page that the browser brought it to; the settings, and
//! the address that a notice is sent to.

#![allow(clippy::print_stderr, reason = "a story that can't be told here says why")]

mod commands;
mod search;
mod service;
#[path = "../commands/serving.rs"]
mod serving;
#[path = "../commands/support.rs"]
mod support;
mod types;
