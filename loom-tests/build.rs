//! Says to the pool's sources that they are compiled for models.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(slabpool_loom)");
    println!("cargo::rustc-cfg=slabpool_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
