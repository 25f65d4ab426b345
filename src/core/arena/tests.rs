use super::*;

#[derive(Debug)]
struct Item(AtomicU32);

impl Default for Item {
    fn default() -> Self {
        Self(AtomicU32::new(0))
    }
}

impl Record for Item {
    fn free_link(&self) -> &AtomicU32 {
        &self.0
    }
}

#[test]
fn the_tables_have_room_for_every_index() {
    let last = INDEX_LIMIT as usize - 1;
    assert!(last / CHUNK < length_of(TABLES - 1), "one too few");
    assert!(last / CHUNK >= length_of(TABLES - 2), "one too many");
}

#[test]
fn an_index_that_was_never_given_out_is_not_found() {
    let arena = Arena::<Item>::new();
    assert!(arena.find(0).is_none());
    arena.take().unwrap();
    assert!(arena.find(0).is_some());
    for index in [CHUNK as u32, INDEX_LIMIT - 1] {
        assert!(arena.find(index).is_none(), "{index}");
    }
    // Beyond several tables, with nothing in between.
    arena.cover(100_000);
    assert!(arena.find(100_000).is_some() && arena.find(50_000).is_none());
}

#[test]
fn records_do_not_move_and_are_used_again() {
    let arena = Arena::<Item>::new();
    let indices: Vec<u32> = (0..3000).map(|_| arena.take().unwrap()).collect();
    let places: Vec<*const Item> = indices.iter().map(|&i| &raw const *arena.get(i)).collect();
    for &index in &indices {
        arena.give(index);
    }
    let mut again: Vec<u32> = (0..3000).map(|_| arena.take().unwrap()).collect();
    again.sort_unstable();
    assert_eq!(again, indices);
    assert_eq!(arena.high_water(), 3000);
    for start in [0, 1, 63, 64, 65, 191, 192, 1_023, 1_024, 2_999, 3_000, 5_000, u32::MAX] {
        let expected = arena.iter().filter(|&(index, _)| index >= start);
        let seen = arena.iter_from(start).map(|(index, _)| index);
        assert!(seen.eq(expected.map(|(index, _)| index)), "from {start}");
    }
    let now: Vec<*const Item> = indices.iter().map(|&i| &raw const *arena.get(i)).collect();
    assert_eq!(now, places);
}
