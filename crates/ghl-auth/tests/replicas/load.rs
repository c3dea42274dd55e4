//! Callers before three replicas, and someone who authorises anew all the time, while replicas come and
//! go.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokens::Timing;

use crate::house::{House, Replica};

/// Replicas that callers know by their addresses.
pub struct Replicas<'a> {
    house: &'a House,
    all: &'a mut [Replica],
    /// Each address with the number of its life, odd while there is none: who asks the dead, or someone
    /// about to end, gets nothing.
    lives: &'a [Mutex<(String, usize)>],
}

impl Replicas<'_> {
    /// Ends one, and starts another in its place.
    pub fn end(&mut self, victim: usize, end: impl FnOnce(&mut Replica)) {
        let held = || self.lives[victim].lock().expect("a life");
        held().1 += 1;
        end(&mut self.all[victim]);
        self.all[victim].start_again(self.house);
        let mut life = held();
        *life = (self.all[victim].address.clone(), life.1 + 1);
    }
}

/// Disturbs the replicas until that says that it is over, and gives the requests that failed at those
/// that were alive. Ends when nothing is in the air any more.
pub fn under_load(
    house: &House,
    key: &str,
    replicas: &mut [Replica],
    mut disturb: impl FnMut(&mut Replicas<'_>) -> bool,
) -> Vec<String> {
    // Opened before anything is disturbed.
    let (keeper, store) = (house.keeper(Timing::default()), house.store());
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lives: Vec<_> = replicas.iter().map(|replica| Mutex::new((replica.address.clone(), 0))).collect();
    let wrong = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|number| {
                let (over, asked, life) = (&over, &asked, &lives[number % lives.len()]);
                scope.spawn(move || {
                    let mut wrong = Vec::new();
                    for id in house.ids.iter().cycle().skip(number * 5) {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let before = life.lock().expect("a life").clone();
                        let path = format!("/v1/locations/{}/token", id.as_str());
                        let answer = crate::house::get(&before.0, key, &path);
                        let after = life.lock().expect("a life").clone();
                        asked.fetch_add(1, Ordering::Relaxed);
                        if answer.status != 200 && before == after && before.1 % 2 == 0 {
                            wrong.push(format!("{id} of a living replica: {answer:?}"));
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    wrong
                })
            })
            .collect();
        // By a clock that is behind, so that each grant is due at once.
        let renewing = scope.spawn(|| {
            let mut renewed = 0;
            while !over.load(Ordering::Relaxed) {
                let id = &house.ids[renewed % house.ids.len()];
                house.block_on(keeper.connect(&house.code(id))).expect("a grant");
                renewed += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            renewed
        });
        let mut replicas = Replicas { house, all: replicas, lives: &lives };
        while disturb(&mut replicas) {}
        over.store(true, Ordering::Relaxed);
        let renewed = renewing.join().expect("no panic");
        println!("{} asked, {renewed} renewed", asked.load(Ordering::Relaxed));
        callers.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
    });
    let began = Instant::now();
    let is_flying = || {
        let kept = house.block_on(store.list(None, usize::MAX)).expect("the store");
        kept.iter().any(|it| it.intent.is_some())
    };
    while is_flying() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
    wrong
}
