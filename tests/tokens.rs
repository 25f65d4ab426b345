//! A token names one connection, and nothing else, for ever.

mod common;

use slabpool::{CloseReason, Pool, Token};

use common::{Connection, Journal, Tally};

fn pool(tally: &Tally, ids: std::ops::Range<u32>) -> (Pool<u8, Connection>, Vec<Token>) {
    let pool = Pool::builder().build().unwrap();
    let tokens = ids.map(|id| pool.put(&1, tally.connect(id)).unwrap()).collect();
    (pool, tokens)
}

fn order(pool: &Pool<u8, Connection>) -> Vec<u32> {
    std::iter::from_fn(|| pool.get(&1).map(|lease| lease.detach().id)).collect()
}

#[test]
fn take_gives_the_connection_and_no_other() {
    let tally = Tally::default();
    let (pool, tokens) = pool(&tally, 0..5);
    assert_eq!(pool.take(tokens[2]).unwrap().id, 2);
    assert!(pool.take(tokens[2]).is_none());
    assert_eq!(pool.stats().taken, 1);
    assert_eq!(order(&pool), [4, 3, 1, 0]);
}

#[test]
fn evict_closes_at_once_wherever_the_connection_lies() {
    for victim in 0..5 {
        let tally = Tally::default();
        let (pool, tokens) = pool(&tally, 0..5);
        assert!(pool.evict(tokens[victim]));
        assert_eq!(tally.dropped(), 1, "not at some later get");
        assert!(!pool.evict(tokens[victim]));
        let mut rest = vec![4, 3, 2, 1, 0];
        rest.retain(|&id| id != victim as u32);
        assert_eq!(order(&pool), rest);
    }
}

#[test]
fn a_leased_connection_is_not_taken_and_not_used_again_once_evicted() {
    let (tally, journal) = (Tally::default(), Journal::new());
    let pool = Pool::<u8, _>::builder().on_close(journal.hook()).build().unwrap();
    let lease = pool.insert(&1, tally.connect(1)).unwrap();
    let token = lease.token();
    assert!(pool.take(token).is_none());
    assert!(pool.evict(token));
    assert!(pool.evict(token), "it still is there");
    assert_eq!(lease.id, 1, "the lease goes on");
    assert_eq!(tally.alive(), 1);
    lease.release();
    assert_eq!(journal.read(), [(1, 1, CloseReason::Removed)]);
    assert!(!pool.evict(token));
    assert!(pool.get(&1).is_none());
}

#[test]
fn the_token_is_the_same_from_insertion_to_end() {
    let tally = Tally::default();
    let (pool, tokens) = pool(&tally, 0..2);
    for _ in 0..3 {
        let (top, below) = (pool.get(&1).unwrap(), pool.get_owned(&1).unwrap());
        assert_eq!((top.token(), below.token()), (tokens[1], tokens[0]));
        below.release();
        top.release();
    }
    assert_eq!(pool.take(tokens[0]).unwrap().id, 0);
}

#[test]
fn a_token_that_outlived_its_connection_finds_nothing() {
    let tally = Tally::default();
    let (pool, stale) = pool(&tally, 0..20);
    pool.clear();
    // The same seats, the same places in the slab.
    for id in 100..200 {
        let token = pool.put(&1, tally.connect(id)).unwrap();
        for &stale in &stale {
            assert_ne!(token, stale);
            assert!(!pool.evict(stale) && pool.take(stale).is_none());
        }
        let lease = pool.get(&1).unwrap();
        assert!(stale.iter().all(|&stale| !pool.evict(stale)));
        lease.release();
        assert_eq!(pool.get(&1).unwrap().detach().id, id);
    }
}

#[test]
fn a_token_of_another_pool_finds_nothing() {
    let tally = Tally::default();
    let (one, tokens_of_one) = pool(&tally, 0..40);
    let (other, tokens_of_other) = pool(&tally, 40..80);
    for (mine, theirs) in tokens_of_one.iter().zip(&tokens_of_other) {
        assert_ne!(mine, theirs);
        assert!(one.take(*theirs).is_none() && !one.evict(*theirs));
        assert!(other.take(*mine).is_none() && !other.evict(*mine));
    }
    assert_eq!((one.status().idle, other.status().idle), (40, 40));
}

#[test]
fn removals_from_the_middle_leave_the_order_and_no_garbage_behind() {
    let tally = Tally::default();
    let pool = Pool::<u8, _>::builder().capacity(1_000).build().unwrap();
    let mut expected = Vec::new();
    let mut tokens = Vec::new();
    for id in 0..1_000 {
        tokens.push((id, pool.put(&1, tally.connect(id)).unwrap()));
    }
    // Far more than a lane holds before it is compacted.
    for round in 0..20 {
        for (index, (id, token)) in std::mem::take(&mut tokens).into_iter().enumerate() {
            if index % 3 == round % 3 {
                assert!(pool.evict(token), "{id}");
            } else {
                tokens.push((id, token));
            }
        }
        let first = 1_000 * (round as u32 + 1);
        for id in first..first + (1_000 - tokens.len()) as u32 {
            tokens.push((id, pool.put(&1, tally.connect(id)).unwrap()));
        }
        assert_eq!(tally.alive(), 1_000);
    }
    expected.extend(tokens.iter().rev().map(|&(id, _)| id));
    assert_eq!(order(&pool), expected);
    assert_eq!(tally.alive(), 0);
}

#[test]
fn tokens_are_told_apart_in_logs() {
    let tally = Tally::default();
    let (_pool, tokens) = pool(&tally, 0..2);
    assert_ne!(tokens[0].to_string(), tokens[1].to_string());
    assert_eq!(format!("{:?}", tokens[0]), format!("Token({})", tokens[0]));
}
