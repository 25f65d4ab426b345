use std::time::Instant;
fn main() {
    let pool = slabpool::Pool::<u64, u64>::builder().capacity(1 << 16).build().unwrap();
    for k in 0..1000u64 {
        pool.put(&k, k).unwrap();
    }
    let group = pool.group(&7);
    let q = crossbeam_queue::ArrayQueue::<u64>::new(64);
    q.push(1).unwrap();
    for _ in 0..4 {
        let n = 10_000_000u64;
        let t = Instant::now();
        for _ in 0..n {
            let v = q.pop().unwrap();
            q.push(std::hint::black_box(v)).unwrap();
        }
        let a = t.elapsed().as_nanos() as f64 / n as f64;
        let t = Instant::now();
        for _ in 0..n {
            let c = group.get().unwrap();
            std::hint::black_box(&*c);
            c.release();
        }
        let b = t.elapsed().as_nanos() as f64 / n as f64;
        let mut k = 0u64;
        let t = Instant::now();
        for _ in 0..n {
            k = (k * 5 + 1) % 1000;
            let c = pool.get(&k).unwrap();
            std::hint::black_box(&*c);
            c.release();
        }
        let d = t.elapsed().as_nanos() as f64 / n as f64;
        println!("arrayqueue {a:.1}  handle {b:.1} ({:.2}x)  keyed {d:.1}", b / a);
    }
    let two = |same: bool| {
        let groups = [pool.group(&7), pool.group(&if same { 7 } else { 8 })];
        if same {
            let _ = pool.put(&7, 8);
        }
        let n = 5_000_000u64;
        let t = Instant::now();
        std::thread::scope(|s| {
            for g in &groups {
                s.spawn(move || {
                    for _ in 0..n {
                        let c = g.get().unwrap();
                        std::hint::black_box(&*c);
                        c.release();
                    }
                });
            }
        });
        t.elapsed().as_nanos() as f64 / n as f64
    };
    println!("2 threads same {:.1} different {:.1}", two(true), two(false));
    let n = 1_000_000u64;
    let t = Instant::now();
    for k in 0..n {
        let c = pool.insert(&7, k).unwrap();
        c.detach();
    }
    println!("insert+detach {:.1}", t.elapsed().as_nanos() as f64 / n as f64);
    let small = slabpool::Pool::<u64, u64>::builder().capacity(1024).build().unwrap();
    for k in 0..1024 {
        small.put(&k, k).unwrap();
    }
    let t = Instant::now();
    for k in 0..n {
        small.put(&(k + 5000), k).unwrap();
    }
    println!("evicting put, distinct keys {:.1}", t.elapsed().as_nanos() as f64 / n as f64);
    let t = Instant::now();
    for k in 0..n {
        small.put(&1, k).unwrap();
    }
    println!("evicting put, one key {:.1}", t.elapsed().as_nanos() as f64 / n as f64);
    println!("{:?} {:?}", small.status(), small.stats());
}
