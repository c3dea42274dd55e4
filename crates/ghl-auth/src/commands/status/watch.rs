//! A screen that is drawn again and again over itself, and the terminal as it was when it ends.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, queue, terminal};
use tokio::sync::mpsc;

/// How long the reader of keys waits before it looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What the person at the terminal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Leave,
    Resized,
}

/// The whole terminal, for a while.
pub(super) struct Screen {
    told: mpsc::Receiver<Told>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    /// Whether there is a terminal to draw on, and someone at it.
    pub(super) fn is_there() -> bool {
        io::stdout().is_terminal() && io::stdin().is_terminal()
    }

    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let (tell, told) = mpsc::channel(16);
        let is_over = Arc::new(AtomicBool::new(false));
        // From here on, whatever fails gives it back.
        let mut screen = Self { told, is_over: is_over.clone(), reader: None };
        let mut out = io::stdout();
        queue!(out, terminal::EnterAlternateScreen, terminal::DisableLineWrap, cursor::Hide)?;
        out.flush()?;
        let reader = std::thread::Builder::new().name("keys".into());
        screen.reader = Some(reader.spawn(move || read(&tell, &is_over))?);
        Ok(screen)
    }

    /// Draws these lines over those of before, at once; what does not fit is left out above the last line.
    pub(super) fn draw(&self, lines: &[String], last: &str) -> io::Result<()> {
        let height = terminal::size().map_or(24, |(_, height)| usize::from(height)).max(2);
        let mut picture = Vec::new();
        queue!(picture, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for line in lines.iter().take(height - 1) {
            picture.extend_from_slice(line.as_bytes());
            queue!(picture, terminal::Clear(terminal::ClearType::UntilNewLine))?;
            picture.extend_from_slice(b"\r\n");
        }
        picture.extend_from_slice(last.as_bytes());
        queue!(
            picture,
            terminal::Clear(terminal::ClearType::UntilNewLine),
            terminal::Clear(terminal::ClearType::FromCursorDown),
            terminal::EndSynchronizedUpdate
        )?;
        let mut out = io::stdout().lock();
        out.write_all(&picture)?;
        out.flush()
    }

    /// What the person does next; that they leave, where nobody is there any more.
    pub(super) async fn told(&mut self) -> Told {
        self.told.recv().await.unwrap_or(Told::Leave)
    }

    /// Completes when they leave.
    pub(super) async fn left(&mut self) {
        while self.told().await != Told::Leave {}
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let mut out = io::stdout();
        let _ = queue!(out, cursor::Show, terminal::EnableLineWrap, terminal::LeaveAlternateScreen);
        let _ = out.flush();
        let _ = terminal::disable_raw_mode();
    }
}

/// Reads keys until nobody wants them any more.
fn read(tell: &mpsc::Sender<Told>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let told = match event::poll(LOOK_UP) {
            Ok(false) => continue,
            Ok(true) => match event::read() {
                Ok(event) => meant_by(&event),
                Err(_) => return,
            },
            Err(_) => return,
        };
        // One who has said it twice means the same.
        if let Some(told) = told {
            let _ = tell.try_send(told);
        }
    }
}

fn meant_by(event: &Event) -> Option<Told> {
    match event {
        Event::Resize(..) => Some(Told::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Told::Leave),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Told::Leave),
            _ => None,
        },
        _ => None,
    }
}
