//! Inputs without a fuzzer.

/// The largest input that is made.
const LENGTH_MAX: usize = 2_048;

/// xorshift64*: numbers that are always the same.
pub struct Numbers(u64);

impl Numbers {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }

    /// Another input, made of those that there are.
    pub fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let one = self.below(corpus.len() + 1);
        let Some(mut input) = corpus.get(one).cloned() else {
            let length = self.below(512);
            return self.bytes(length);
        };
        for _ in 0..=self.below(8) {
            let at = self.below(input.len() + 1);
            let length = self.below(16).min(input.len() - at);
            match self.below(6) {
                0 => drop(input.drain(at..at + length)),
                1 => drop(input.splice(at..at, self.bytes(length))),
                2 => {
                    let part = input[at..at + length].to_vec();
                    let to = self.below(input.len() + 1);
                    input.splice(to..to, part);
                }
                3 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    input.splice(at.., other[from..].iter().copied());
                }
                _ => {
                    let bits = self.next() as u8;
                    input.get_mut(at).into_iter().for_each(|byte| *byte ^= bits);
                }
            }
        }
        input.truncate(LENGTH_MAX);
        input
    }
}
