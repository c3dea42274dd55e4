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
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let (columns, rows) = (usize::from(columns).max(1), usize::from(rows).max(2));
        let wrapped: Vec<String> = lines.iter().flat_map(|line| wrapped(line, columns)).collect();
        let mut picture = Vec::new();
        queue!(picture, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for line in wrapped.iter().take(rows - 1) {
            put(&mut picture, line, columns)?;
            picture.extend_from_slice(b"\r\n");
        }
        put(&mut picture, last, columns)?;
        queue!(
            picture,
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

/// A line, and nothing of the one that was there before it. One that is full leaves nothing of it, and its last
/// letter is where the cursor stays.
fn put(picture: &mut Vec<u8>, line: &str, columns: usize) -> io::Result<()> {
    picture.extend_from_slice(line.as_bytes());
    match length(line) < columns {
        true => queue!(picture, terminal::Clear(terminal::ClearType::UntilNewLine)),
        false => Ok(()),
    }
}

/// How many columns a line takes, its colours aside.
fn length(line: &str) -> usize {
    anstream::adapter::strip_str(line).to_string().chars().count()
}

/// A line in as many as it takes. A word that is longer than a line is broken, with what it has of colours left
/// away.
fn wrapped(line: &str, columns: usize) -> Vec<String> {
    if length(line) <= columns {
        return vec![line.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.last_mut().expect("there is always one");
        if length(last) + 1 + length(word) <= columns {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        } else if length(word) <= columns {
            lines.push(word.to_owned());
        } else {
            let letters: Vec<char> = anstream::adapter::strip_str(word).to_string().chars().collect();
            lines.extend(letters.chunks(columns).map(|part| part.iter().collect::<String>()));
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wider_than_the_terminal_goes_on_in_the_next_line() {
        let check = |line: &str, expected: &[&str]| assert_eq!(wrapped(line, 10), expected, "{line}");
        check("", &[""]);
        check("\u{1b}[1mten\u{1b}[0m more", &["\u{1b}[1mten\u{1b}[0m more"]);
        check("ten letters", &["ten", "letters"]);
        check("what to do is told", &["what to do", "is told"]);
        check("  https://example.com/a", &["https://ex", "ample.com/", "a"]);
        for line in wrapped(&"word ".repeat(40), 10) {
            assert!(length(&line) <= 10, "{line}");
        }
    }

    #[test]
    fn a_full_line_keeps_its_last_letter() {
        let put_into = |line: &str| {
            let mut picture = Vec::new();
            put(&mut picture, line, 5).expect("room");
            String::from_utf8(picture).expect("text")
        };
        assert_eq!(put_into("12345"), "12345");
        assert_eq!(put_into("\u{1b}[1m12345\u{1b}[0m"), "\u{1b}[1m12345\u{1b}[0m");
        assert_eq!(put_into("1234"), "1234\u{1b}[K");
    }
}
