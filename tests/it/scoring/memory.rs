//! What all requests may keep together: who waits, who does not, who is refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use transferscore::{
    cancel::{Cancel, Turn},
    error::{Kind, Reason},
    scoring::Memory,
};

/// 300 for large requests, 10 for each of ten small ones.
fn memory() -> Memory {
    Memory::new(400, 10)
}

fn wait_until(memory: &Memory, n_waiting: usize) {
    while memory.n_waiting() != n_waiting {
        thread::yield_now();
    }
}

#[test]
fn small_requests_never_wait() {
    let (memory, cancel) = (memory(), Cancel::default());
    let _large = memory.reserve(300, &cancel).unwrap();
    let small: Vec<_> = (0..10).map(|_| memory.reserve(10, &cancel).unwrap()).collect();
    assert_eq!(memory.in_use(), 400);
    drop(small);
    assert_eq!(memory.in_use(), 300);
}

#[test]
fn what_never_fits_is_refused_at_once() {
    let error = memory().reserve(301, &Cancel::default()).unwrap_err();
    assert_eq!((error.reason, error.kind()), (Reason::LimitExceeded, Kind::ResourceExhausted));
}

#[test]
fn large_requests_wait_in_the_order_in_which_they_came() {
    let (memory, cancel) = (memory(), Cancel::default());
    let (told, order) = mpsc::channel();
    thread::scope(|scope| {
        let first = memory.reserve(200, &cancel).unwrap();
        let wait_for = |bytes: u64, name: &'static str| {
            let (memory, cancel, told) = (&memory, &cancel, told.clone());
            scope.spawn(move || {
                let reserved = memory.reserve(bytes, cancel).unwrap();
                told.send(name).unwrap();
                drop(reserved);
            })
        };
        wait_for(300, "second");
        wait_until(&memory, 1);
        // There is room for it, but it came later.
        wait_for(100, "third");
        wait_until(&memory, 2);
        drop(first);
        assert_eq!([order.recv().unwrap(), order.recv().unwrap()], ["second", "third"]);
    });
    assert_eq!(memory.in_use(), 0);
}

#[test]
fn a_request_that_is_left_while_it_waits_lets_the_next_one_pass() {
    let (memory, cancel, left) = (memory(), Cancel::default(), Cancel::default());
    thread::scope(|scope| {
        let _first = memory.reserve(200, &cancel).unwrap();
        let leaving = scope.spawn(|| memory.reserve(300, &left).map(drop));
        wait_until(&memory, 1);
        let next = scope.spawn(|| memory.reserve(100, &cancel).map(drop));
        wait_until(&memory, 2);
        left.cancel();
        assert_eq!(leaving.join().unwrap().unwrap_err().reason, Reason::Cancelled);
        next.join().unwrap().unwrap();
    });
}

#[derive(Default)]
struct Counted {
    given_up: AtomicUsize,
    taken_back: AtomicUsize,
}

impl Turn for Counted {
    fn is_over(&self) -> bool {
        false
    }

    fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    fn take_back(&self) {
        self.taken_back.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_for_memory_lets_others_compute() {
    let (memory, turn) = (memory(), Arc::new(Counted::default()));
    let first = memory.reserve(300, &Cancel::default()).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let cancel = Cancel::default().in_turn(Arc::clone(&turn) as Arc<dyn Turn>);
            memory.reserve(300, &cancel).map(drop)
        });
        wait_until(&memory, 1);
        assert_eq!((turn.given_up.load(Ordering::Relaxed), turn.taken_back.load(Ordering::Relaxed)), (1, 0));
        drop(first);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(turn.taken_back.load(Ordering::Relaxed), 1);
}
