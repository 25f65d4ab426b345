//! The power of two choices.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::balancer::{Balancer, Host, Load, Settings, choose};

fn hosts(many: u16) -> Vec<Arc<Host>> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (1..=many).map(|port| Arc::new(Host::new(address(port)))).collect()
}

/// Numbers as good as drawn by lot.
fn draws() -> impl Iterator<Item = u64> {
    (1..=30_000_u64).map(|number| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(32)
    })
}

#[test]
fn of_none_there_is_none_and_of_one_that_one() {
    let hosts = hosts(1);
    for draw in [0, 1, 7, u64::MAX, 1 << 32] {
        assert!(choose(&[], draw).is_none());
        assert_eq!(choose(&[&hosts[0]], draw).unwrap().address, hosts[0].address);
    }
}

#[test]
fn of_two_the_less_loaded_one_whatever_is_drawn() {
    let hosts = hosts(2);
    let _load = Load::on(&hosts[0]);
    let both: Vec<_> = hosts.iter().collect();
    for draw in draws().chain([0, 1, u64::MAX, u64::MAX - 1]) {
        assert_eq!(choose(&both, draw).unwrap().address, hosts[1].address);
    }
}

#[test]
fn the_most_loaded_one_never_and_the_others_as_two_draws_have_it() {
    let hosts = hosts(4);
    let _loads: Vec<_> = (0..4)
        .flat_map(|host| (0..host).map(|_| Load::on(&hosts[host])).collect::<Vec<_>>())
        .collect();
    let all: Vec<_> = hosts.iter().collect();
    let mut chosen = [0; 4];
    for draw in draws() {
        chosen[usize::from(choose(&all, draw).unwrap().address.port()) - 1] += 1;
    }
    // Of the six pairs: three, two, one, none.
    assert_eq!(chosen[3], 0);
    for (count, sixths) in chosen[..3].iter().zip([3, 2, 1]) {
        let fair = 30_000 / 6 * sixths;
        assert!((fair * 9 / 10..fair * 11 / 10).contains(count), "{chosen:?}");
    }
}

#[test]
fn equal_ones_get_equal_parts() {
    for many in [2, 3, 5] {
        let hosts = hosts(many);
        let all: Vec<_> = hosts.iter().collect();
        let mut chosen = vec![0_u64; usize::from(many)];
        for draw in draws() {
            chosen[usize::from(choose(&all, draw).unwrap().address.port()) - 1] += 1;
        }
        let fair = 30_000 / u64::from(many);
        assert!(chosen.iter().all(|n| (fair * 9 / 10..fair * 11 / 10).contains(n)), "{chosen:?}");
    }
}

#[test]
fn a_load_counts_until_it_is_dropped() {
    let hosts = hosts(1);
    let loads: Vec<_> = (0..3).map(|_| Load::on(&hosts[0])).collect();
    assert_eq!(hosts[0].load(), 3);
    drop(loads);
    assert_eq!(hosts[0].load(), 0);
}

#[test]
fn what_cannot_work_is_named() {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let error = |hosts: &[SocketAddr], settings| match Balancer::new(hosts, settings) {
        Ok(_) => panic!("it cannot work"),
        Err(error) => error.to_string(),
    };
    let standard = Settings::default;
    assert!(error(&[], standard()).contains("no host"));
    let twice = [at(1), at(2), at(1)];
    assert_eq!(error(&twice, standard()), "the host 127.0.0.1:1 is there twice");
    for path in ["health", "", "http://there/health", "/he alth"] {
        let settings = Settings { health_path: path.to_owned(), ..standard() };
        let error = error(&[at(1)], settings);
        assert!(error.starts_with(&format!("the health path is {path:?}")), "{error}");
    }
    let settings = Settings { fall: 0, ..standard() };
    assert_eq!(error(&[at(1)], settings), "fall is zero, it must be more");
    let settings = Settings { max_connections: 0, ..standard() };
    assert!(error(&[at(1)], settings).starts_with("max_connections_per_group is 0"));
}
