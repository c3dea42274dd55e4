//! The way of one request: read, held, processed, spoilt by a fault, noted, answered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body as HttpBody, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use http_body::Frame;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::admin;
use crate::call::{Answer, Body, Call, Dialect};
use crate::clock::{Clock, Millis};
use crate::console::{self, Speech};
use crate::door;
use crate::faults::{Fault, FaultKind, Faults, Hold, Kind};
use crate::grants::Refused;
use crate::ledger::RequestLine;
use crate::oauth;
use crate::routes::{self, Reply};
use crate::settings::Settings;
use crate::webhooks::Webhooks;
use crate::wire::Shears;
use crate::world::World;

const LARGEST_BODY: usize = 1 << 20;

/// What the server's task and every handle of the sandbox share.
pub(crate) struct Desk {
    pub(crate) base_url: String,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Clock,
    pub(crate) webhooks: Arc<Webhooks>,
    /// The words of the console; where there are none, there is no console.
    pub(crate) speech: Option<Arc<dyn Speech>>,
    world: Mutex<World>,
    faults: Mutex<Faults>,
    pub(crate) holds: watch::Sender<Vec<Hold>>,
    /// How many requests wait at a hold.
    pub(crate) held: watch::Sender<usize>,
}

impl Desk {
    pub(crate) fn new(base_url: String, settings: Settings, speech: Option<Arc<dyn Speech>>) -> Self {
        let settings = Arc::new(settings);
        let clock = Clock::start();
        let webhooks = Arc::new(Webhooks::new(settings.seed));
        Self {
            base_url,
            world: Mutex::new(World::new(Arc::clone(&settings), Arc::clone(&webhooks), clock.now())),
            faults: Mutex::new(Faults::new(settings.seed)),
            settings,
            clock,
            webhooks,
            speech,
            holds: watch::Sender::new(Vec::new()),
            held: watch::Sender::new(0),
        }
    }

    /// The world, at the time it is now.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.now = self.clock.now();
        world
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waiting_faults(&self) -> Vec<Fault> {
        let now = self.clock.now();
        self.faults().waiting(now).iter().map(|thrown| thrown.fault.clone()).collect()
    }

    /// Begins again: no grants, no faults, no holds, an empty ledger. The clock goes on.
    pub(crate) fn reset(&self) {
        let fresh = World::new(Arc::clone(&self.settings), Arc::clone(&self.webhooks), self.clock.now());
        *self.world() = fresh;
        self.faults().clear();
        self.webhooks.reset();
        self.holds.send_replace(Vec::new());
    }

    async fn wait_while_held(&self, kind: Kind, path: &str, processed: bool) {
        let stops = |holds: &Vec<Hold>| {
            holds.iter().any(|hold| hold.processed == processed && hold.on.matches(kind, path))
        };
        if !stops(&self.holds.borrow()) {
            return;
        }
        self.held.send_modify(|held| *held += 1);
        // An error means that the sandbox is gone, and with it every gate.
        self.holds.subscribe().wait_for(|holds| !stops(holds)).await.ok();
        self.held.send_modify(|held| *held -= 1);
    }
}

/// An answer as it goes on the wire.
pub(crate) struct Sheet {
    status: u16,
    pub(crate) headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

/// The chunks of a body whose length isn't told beforehand.
struct Chunks(VecDeque<Bytes>);

impl Chunks {
    const LONGEST: usize = 100;

    fn of(body: &[u8]) -> Self {
        Self(body.chunks(Self::LONGEST).map(Bytes::copy_from_slice).collect())
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Answers every request.
pub(crate) async fn serve(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(shears): ConnectInfo<Shears>,
    request: Request,
) -> Response {
    shears.open();
    let call = match read(request).await {
        Ok(call) => call,
        Err(answer) => return sheet(answer, &[]).into_response(),
    };
    if call.path.starts_with("/_sandbox") {
        return controls(&desk, &call).into_response();
    }
    if let Some(sheet) = console::front_door(&desk, &call) {
        return sheet.into_response();
    }
    // In a task of its own: a client that hangs up doesn't keep HighLevel from doing what it was asked.
    let conducted = tokio::spawn(async move { conduct(&desk, &call, &shears).await }).await;
    conducted.unwrap_or_else(|_| sheet(Answer::text(500, "the sandbox itself failed"), &[])).into_response()
}

/// Answers everything that HighLevel doesn't have.
fn controls(desk: &Desk, call: &Call) -> Sheet {
    let mut sheet = match door::admit(&call.method, &call.headers) {
        Err(kept) => sheet(kept.answer(), &[]),
        Ok(()) => console::answer(desk, call).unwrap_or_else(|| sheet(admin::answer(desk, call), &[])),
    };
    let own = [("x-content-type-options", "nosniff"), ("cross-origin-resource-policy", "same-origin")];
    sheet.headers.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    sheet
}

async fn read(request: Request) -> Result<Call, Answer> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST_BODY).await.map_err(|_| Answer::error(413, "Payload Too Large"))?;
    let header = |name: &str| header(&parts.headers, name);
    Ok(Call {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        target: parts.uri.to_string(),
        version: header("version"),
        bearer: header("authorization")
            .map(|value| value.strip_prefix("Bearer ").unwrap_or(&value).to_owned()),
        content_type: header("content-type").unwrap_or_default(),
        headers: parts.headers,
        body,
    })
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

async fn conduct(desk: &Desk, call: &Call, shears: &Shears) -> Sheet {
    let (at, started) = (desk.clock.now(), Instant::now());
    let kind = call.kind();
    count_arrival(desk, kind);
    desk.wait_while_held(kind, &call.path, false).await;
    let fault = desk.faults().take(kind, &call.path, desk.clock.now());
    if let Some(FaultKind::DelayBefore { millis }) = fault {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let mut line = new_line(at, call, fault.as_ref());
    let mut sheet = match fault.as_ref().is_none_or(FaultKind::processes) {
        true => process(desk, call, &mut line),
        false => instead(desk, kind),
    };
    if let Some(fault) = &fault {
        spoil(&mut sheet, fault, call, shears, desk);
        if let FaultKind::Delay { millis } = fault {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
        }
    }
    desk.wait_while_held(kind, &call.path, true).await;
    line.status = sheet.status;
    line.millis = started.elapsed().as_secs_f64() * 1000.0;
    let mut world = desk.world();
    line.headers = world.headers_noted.then(|| noted(call, &line));
    world.ledger.note_request(line);
    sheet.chunked = world.chunked_answers && !call.path.contains("/oauth/");
    sheet
}

fn count_arrival(desk: &Desk, kind: Kind) {
    match kind {
        Kind::Refresh => desk.world().ledger.counts.refreshes += 1,
        Kind::Exchange => desk.world().ledger.counts.exchanges += 1,
        _ => {}
    }
}

fn new_line(at: Millis, call: &Call, fault: Option<&FaultKind>) -> RequestLine {
    RequestLine {
        at,
        method: call.method.clone(),
        path: call.path.clone(),
        query: call.query.clone(),
        target: call.target.clone(),
        headers: None,
        version: call.version.clone(),
        caller: None,
        generation: None,
        status: 0,
        fault: fault.map(FaultKind::name),
        millis: 0.0,
        trace_id: None,
    }
}

/// The headers of a call, with its token named instead of shown.
fn noted(call: &Call, line: &RequestLine) -> Vec<(String, String)> {
    let holder = line.caller.as_deref().unwrap_or("nobody");
    let token = match line.generation {
        Some(generation) => format!("{holder}, generation {generation}"),
        None => holder.to_owned(),
    };
    let shown = |name: &str, value: &[u8]| match name {
        "authorization" => token.clone(),
        _ => String::from_utf8_lossy(value).into_owned(),
    };
    let headers = call.headers.iter();
    headers.map(|(name, value)| (name.as_str().to_owned(), shown(name.as_str(), value.as_bytes()))).collect()
}

fn process(desk: &Desk, call: &Call, line: &mut RequestLine) -> Sheet {
    let mut world = desk.world();
    let Reply { answer, caller, allowance } = routes::answer(&mut world, call);
    if let Some(caller) = caller {
        line.caller = Some(caller.class_id);
        line.generation = caller.generation;
    }
    // A good token reply carries no trace in HighLevel's samples; a minted one does.
    let traced = answer.status != 200 || !call.path.starts_with("/oauth/token");
    let answer = match traced {
        true => {
            let trace_id = world.chance.uuid();
            let answer = answer.with_trace_id(&trace_id);
            line.trace_id = Some(trace_id);
            answer
        }
        false => answer,
    };
    drop(world);
    match allowance {
        Some(allowance) => sheet(answer, &allowance.headers()),
        None => sheet(answer, &[]),
    }
}

/// Notes that a fault answers in our place; what it answers comes from `spoil`.
fn instead(desk: &Desk, kind: Kind) -> Sheet {
    match kind {
        Kind::Refresh => desk.world().note_unprocessed("refresh_token"),
        Kind::Exchange => desk.world().note_unprocessed("authorization_code"),
        Kind::Mint => desk.world().note_unprocessed("location_token"),
        _ => {}
    }
    Sheet { status: 0, headers: Vec::new(), body: Vec::new(), chunked: false }
}

pub(crate) fn sheet(answer: Answer, headers: &[(&'static str, String)]) -> Sheet {
    let (content_type, body) = match answer.body {
        Body::Json(value) => ("application/json; charset=utf-8", value.to_string()),
        Body::Html(page) => ("text/html; charset=utf-8", page),
        Body::Text(text) => ("text/plain; charset=utf-8", text),
    };
    let mut all = vec![("content-type".to_owned(), content_type.to_owned())];
    all.extend(answer.location.map(|to| ("location".to_owned(), to)));
    all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Sheet { status: answer.status, headers: all, body: body.into_bytes(), chunked: false }
}

impl Sheet {
    fn into_response(self) -> Response {
        let mut response = Response::new(match self.chunked {
            true => HttpBody::new(Chunks::of(&self.body)),
            false => HttpBody::from(Bytes::from(self.body)),
        });
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) =
                (axum::http::HeaderName::try_from(name), axum::http::HeaderValue::try_from(value))
            {
                response.headers_mut().append(name, value);
            }
        }
        response
    }

    fn replace(&mut self, status: u16, content_type: &str, body: &str) {
        self.status = status;
        self.headers = vec![("content-type".to_owned(), content_type.to_owned())];
        self.body = body.as_bytes().to_vec();
    }

    fn edit(&mut self, change: impl Fn(&mut Map<String, Value>)) {
        if let Ok(Value::Object(mut object)) = serde_json::from_slice(&self.body) {
            change(&mut object);
            self.body = Value::Object(object).to_string().into_bytes();
        }
    }
}

const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n";

fn spoil(sheet: &mut Sheet, fault: &FaultKind, call: &Call, shears: &Shears, desk: &Desk) {
    const JSON: &str = "application/json; charset=utf-8";
    match fault {
        FaultKind::LoseAnswer | FaultKind::LoseRequest => shears.cut_after(0),
        FaultKind::Reset { .. } => shears.reset(),
        FaultKind::CutAfter { bytes } => shears.cut_after(*bytes),
        FaultKind::Delay { .. } | FaultKind::DelayBefore { .. } => {}
        FaultKind::Status { code, body, content_type, headers, .. } => {
            sheet.replace(*code, content_type, body);
            sheet.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        FaultKind::GatewayHtml { .. } => sheet.replace(502, "text/html", BAD_GATEWAY),
        FaultKind::TruncatedJson => sheet.body.truncate(sheet.body.len() / 2),
        FaultKind::FieldsMissing { fields } => sheet.edit(|object| {
            for field in fields {
                if let Some((parent, name)) = within(object, field) {
                    parent.shift_remove(name);
                }
            }
        }),
        FaultKind::FieldsSet { fields } => sheet.edit(|object| {
            for (field, value) in fields {
                if let Some((parent, name)) = within(object, field) {
                    parent.insert(name.to_owned(), value.clone());
                }
            }
        }),
        FaultKind::Body { body, content_type } => {
            sheet.headers.retain(|(name, _)| name != "content-type");
            sheet.headers.push(("content-type".to_owned(), content_type.clone()));
            sheet.body = body.as_bytes().to_vec();
        }
        FaultKind::RateLimited { retry_after } => {
            sheet.replace(
                429,
                JSON,
                &json!({ "statusCode": 429, "message": "Too Many Requests" }).to_string(),
            );
            let world = desk.world();
            let allowance = world.limits.unlimited(world.now).exhausted();
            sheet.headers.extend(allowance.headers().map(|(name, value)| (name.to_owned(), value)));
            sheet.headers.extend(retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string())));
        }
        FaultKind::NotActive => *sheet = refused(call, Refused::NotActive),
        FaultKind::RefusedClient => *sheet = refused(call, Refused::WrongClient),
        FaultKind::InvalidGrant => *sheet = refused(call, Refused::InvalidGrant),
    }
}

fn refused(call: &Call, why: Refused) -> Sheet {
    let dialect = call.dialect_or_dated().unwrap_or(Dialect::Dated);
    sheet(oauth::refusal(dialect, why), &[])
}

/// The object that holds a member named with dots, and the member's own name.
fn within<'o, 'n>(
    object: &'o mut Map<String, Value>,
    field: &'n str,
) -> Option<(&'o mut Map<String, Value>, &'n str)> {
    match field.split_once('.') {
        None => Some((object, field)),
        Some((outer, inner)) => within(object.get_mut(outer)?.as_object_mut()?, inner),
    }
}
