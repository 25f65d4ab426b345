//! Victims come out of a batch once each and whole, whoever takes them and fills it anew.

mod common;

use std::sync::Arc;

use common::{check, check_all};
use loom::thread;
use slabpool::model::{Batch, Claim};

/// The claim of this number. Its halves say the same, so that a torn one shows.
fn claim(number: u32) -> Claim {
    Claim { seat: number, incarnation: u64::from(number) << 40 }
}

/// The number of a claim, which is whole.
fn number(claim: Claim) -> u32 {
    assert_eq!(claim, self::claim(claim.seat), "it is whole");
    claim.seat
}

fn fill(batch: &Batch, numbers: &[u32]) {
    batch.fill(numbers.iter().map(|&number| claim(number)));
}

/// A batch with these claims.
fn batch(numbers: &[u32]) -> Arc<Batch> {
    let batch = Arc::new(Batch::new());
    fill(&batch, numbers);
    batch
}

/// All that are left, in order.
fn left(batch: &Batch) -> Vec<u32> {
    std::iter::from_fn(|| batch.pop().map(number)).collect()
}

/// Two threads take two claims: one each.
#[test]
fn a_claim_is_taken_once() {
    check_all(|| {
        let batch = batch(&[1, 2]);
        let other = thread::spawn({
            let batch = Arc::clone(&batch);
            move || batch.pop().map(number)
        });
        let own = batch.pop().map(number);
        let mut taken = [own, other.join().unwrap()];
        taken.sort_unstable();
        assert_eq!(taken, [Some(1), Some(2)]);
        assert!(batch.pop().is_none());
    });
}

/// A claim is taken while the batch is filled for the first time, which makes its entries.
#[test]
fn what_is_filled_in_is_whole() {
    check_all(|| {
        let batch = Arc::new(Batch::new());
        let other = thread::spawn({
            let batch = Arc::clone(&batch);
            move || batch.pop().map(number)
        });
        fill(&batch, &[1, 2]);
        let taken = other.join().unwrap();
        let expected: &[u32] = if taken.is_some() { &[2] } else { &[1, 2] };
        assert_eq!((taken.unwrap_or(1), left(&batch)), (1, expected.to_vec()));
    });
}

/// Somebody has read a claim, and is slow. Meanwhile the batch is emptied, and filled with
/// others in the same entries.
#[test]
fn who_is_slow_takes_what_is_there_now() {
    check(3, || {
        let batch = batch(&[1]);
        let slow = thread::spawn({
            let batch = Arc::clone(&batch);
            move || batch.pop().map(number)
        });
        let own = batch.pop().map(number);
        fill(&batch, &[3]);
        let mut taken = left(&batch);
        taken.extend(own);
        taken.extend(slow.join().unwrap());
        taken.extend(left(&batch));
        taken.sort_unstable();
        assert_eq!(taken, [1, 3], "it was empty when it was filled");
    });
}

/// Those who fill come one after the other, by something else. Each fills what is empty.
#[test]
fn who_fills_next_writes_after_all_have_read() {
    check(2, || {
        let batch = batch(&[1, 2]);
        let takers = [(); 2].map(|()| {
            let batch = Arc::clone(&batch);
            thread::spawn(move || batch.pop().map(number))
        });
        fill(&batch, &[3]);
        let mut taken: Vec<u32> =
            takers.into_iter().filter_map(|taker| taker.join().unwrap()).collect();
        taken.extend(left(&batch));
        taken.sort_unstable();
        assert!(taken == [1, 2] || taken == [1, 2, 3], "{taken:?}");
    });
}
