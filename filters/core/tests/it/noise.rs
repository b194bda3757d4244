//! Requests with bytes changed, dropped, doubled and invented: the invariants of every request
//! hold, and nothing panics. The noise is the same in every run.

use crate::support;

use support::{grpc, play, proxy, rest};
use tensorgate_in_memory_proxy::Request;

/// Requests of each kind.
const ROUNDS: usize = 4_000;

/// Xorshift pseudo-random numbers.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(5) {
            0 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let doubled: Vec<u8> = bytes[at..].iter().take(40).copied().collect();
                bytes.splice(at..at, doubled);
            }
            _ => bytes.insert(at, self.below(256) as u8),
        }
    }
}

#[test]
fn no_noise_breaks_what_must_hold_of_every_request() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut proxy = proxy();
    let (mut allowed, mut refused) = (0, 0);
    for round in 0..ROUNDS * 4 {
        let mut request = if round % 2 == 0 { rest("m") } else { grpc("m") };
        for _ in 0..=noise.below(3) {
            if noise.below(2) == 0 {
                let at = noise.below(request.headers.len());
                match noise.below(4) {
                    0 => noise.spoil(&mut request.headers[at].0),
                    1 => noise.spoil(&mut request.headers[at].1),
                    2 => {
                        let doubled = request.headers[at].clone();
                        request.headers.push(doubled);
                    }
                    _ if request.headers.len() > 1 => drop(request.headers.remove(at)),
                    _ => {}
                }
            } else {
                noise.spoil(&mut request.body[0]);
            }
        }
        let body = request.body.concat();
        let cut = noise.below(body.len() + 1);
        let request = Request {
            body: vec![body[..cut].to_vec(), body[cut..].to_vec()],
            trailers: (noise.below(3) == 0).then(Vec::new),
            ..request
        };
        if play(&mut proxy, &request).allowed() {
            allowed += 1
        } else {
            refused += 1
        }
    }
    assert!(
        allowed > ROUNDS / 10 && refused > ROUNDS,
        "{allowed} allowed, {refused} refused: noise of the wrong strength"
    );
}
