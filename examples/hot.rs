fn main() {
    let pool = slabpool::Pool::<u64, u64>::builder().capacity(1 << 12).build().unwrap();
    for k in 0..1000u64 {
        pool.put(&k, k).unwrap();
    }
    let group = pool.group(&7);
    let mode = std::env::args().nth(1).unwrap();
    let n: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    match mode.as_str() {
        "handle" => {
            for _ in 0..n {
                let c = group.get().unwrap();
                std::hint::black_box(&*c);
                c.release();
            }
        }
        "keyed" => {
            let mut k = 0u64;
            for _ in 0..n {
                k = (k * 5 + 1) % 1000;
                let c = pool.get(&k).unwrap();
                std::hint::black_box(&*c);
                c.release();
            }
        }
        "churn" => {
            for k in 0..n {
                let c = pool.insert(&7, k).unwrap();
                c.detach();
            }
        }
        "groupchurn" => {
            for k in 0..n {
                let c = group.insert(k).unwrap();
                c.detach();
            }
        }
        _ => {}
    }
}
