//! What leaves the pool's sight: leases that outlive it elsewhere or are forgotten, tokens
//! of others, keys without end.

use std::sync::mpsc;
use std::thread;

use slabpool::{Pool, PooledOwned, RejectReason, Token};

use crate::common::{Connection, Tally};

#[test]
fn leases_end_on_other_threads_after_the_pool() {
    let (tally, (send, receive)) = (Tally::default(), mpsc::channel());
    let other = thread::spawn(move || {
        let leases: Vec<PooledOwned<u32, Connection>> = receive.iter().collect();
        for (number, lease) in leases.into_iter().enumerate() {
            match number % 4 {
                0 => lease.release(),
                1 => lease.close(),
                2 => drop(lease.detach()),
                _ => drop(lease),
            }
        }
    });
    for pools in 0..4 {
        let pool = Pool::<u32, _>::builder().capacity(16).build().unwrap();
        for key in 0..16 {
            send.send(pool.insert_owned(&(key % 3), tally.connect(key)).unwrap()).unwrap();
        }
        if pools % 2 == 0 {
            pool.close();
        }
    }
    drop(send);
    other.join().unwrap();
    assert_eq!(tally.alive(), 0);
}

#[test]
fn forgotten_leases_cost_their_places_and_no_more() {
    let tally = Tally::default();
    let pool = Pool::<u32, _>::builder().capacity(8).build().unwrap();
    let mut tokens: Vec<Token> = Vec::new();
    for key in 0..4 {
        let lease = pool.insert(&key, tally.connect(key)).unwrap();
        tokens.push(lease.token());
        std::mem::forget(lease);
    }
    for round in 0..1_000 {
        pool.put(&(round % 9), tally.connect(round)).unwrap();
    }
    assert_eq!((pool.status().idle, pool.status().leased), (4, 4));
    // Nobody can take them back, and nobody is told that they ended.
    assert!(tokens.iter().all(|&token| pool.take(token).is_none() && pool.evict(token)));
    pool.clear();
    pool.close();
    assert_eq!((pool.status().idle, pool.status().leased), (0, 4));
    drop(pool);
    assert_eq!(tally.alive(), 4, "they are leaked, as was wished");
}

#[test]
fn a_token_of_another_pool_harms_nobody() {
    let tally = Tally::default();
    let pools: Vec<_> = (0..4).map(|_| Pool::<u32, Connection>::new()).collect();
    let connect = |pool: &Pool<u32, Connection>, id| pool.put(&1, tally.connect(id)).unwrap();
    let tokens: Vec<_> = pools.iter().map(|pool| connect(pool, 0)).collect();
    // The same seats and places in all of them, at all their generations.
    for round in 0..200 {
        for (own, pool) in pools.iter().enumerate() {
            for (other, &token) in tokens.iter().enumerate() {
                if other != own {
                    assert!(pool.take(token).is_none() && !pool.evict(token));
                }
            }
            if round % 2 == own % 2 {
                pool.get(&1).into_iter().for_each(|lease| lease.close());
                connect(pool, round as u32);
            }
        }
    }
    assert!(pools.iter().all(|pool| pool.status().idle == 1));
    assert_eq!(tally.alive(), 4);
}

/// Of keys that come and go the pool keeps nothing, whatever their connections did.
#[test]
fn keys_without_end_leave_nothing() {
    let pool = Pool::<String, u32>::builder().capacity(64).build().unwrap();
    for number in 0..20_000_u32 {
        let key = format!("10.{}.{}.{}:443", number >> 16, number >> 8 & 255, number & 255);
        match number % 5 {
            0 => drop(pool.put(&key, number).unwrap()),
            1 => pool.insert(&key, number).unwrap().release(),
            2 => drop(pool.insert(&key, number).unwrap()),
            3 => assert!(pool.get(&key).is_none() && !pool.group(&key).is_draining()),
            _ => {
                pool.drain_group(&key);
                let refused = pool.put(&key, number).unwrap_err();
                assert_eq!(refused.reason, RejectReason::Draining);
                pool.resume_group(&key);
            }
        }
        assert!(pool.status().groups <= 65);
    }
    pool.clear();
    assert_eq!(pool.status().groups, 0);
}
