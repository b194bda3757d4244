//! Runs before a sound model: from a WAV (`audio/wav`, an unparsed body) to `features` FP32 `[1,
//! mels, frames]`, a log-mel spectrogram as librosa computes it (`log(max(melspectrogram(…,
//! center=True), 1e-10))`, Slaney's scale and norm).
//!
//! | config | default | |
//! |---|---|---|
//! | `sample_rate` | 16000 | Hz; a sound of another rate is rejected, not resampled |
//! | `n_fft`, `win_length`, `hop_length` | 512, 400, 160 | samples; `n_fft` is a power of two |
//! | `n_mels`, `f_min`, `f_max` | 64, 0, half the rate | filters, and Hz |
//! | `max_seconds` | 30 | the longest sound |
//! | `input` | features | the name of the model's input |
//!
//! It accepts 16-bit PCM and 32-bit floats, with up to 8 channels, which are averaged. The
//! spectrogram has `1 + samples / hop_length` frames. Header fields must agree with each other and
//! with the data. It computes in double precision: the results differ from numpy's in the last bits
//! of an FP32 only.

mod fft;
mod mel;
mod wav;

use handler_settings::{name, number};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

pub use crate::fft::Fft;
pub use crate::mel::{Mel, Settings};
pub use crate::wav::samples;

/// The most samples of a sound, whatever the policy allows: 64 MiB of them.
const MAX_SAMPLES: usize = 8 << 20;

struct AudioFeatures;

impl Preprocess for AudioFeatures {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Raw(body) = input else {
            return Err(Error::bad_input("expected a sound, not tensors"));
        };
        let settings = settings()?;
        let seconds = number("max_seconds", 30, 1..=3600_usize)?;
        let rate = usize::try_from(settings.sample_rate).map_err(Error::fault)?;
        let most = seconds.saturating_mul(rate).min(MAX_SAMPLES);
        let samples = samples(&body.data, settings.sample_rate, most)?;
        let features = Mel::new(&settings).features(&samples);
        let frames = features.len().checked_div(settings.n_mels).unwrap_or(0);
        let shape = [1, settings.n_mels, frames];
        let tensor = Tensor::fill(name("input", "features"), &shape, |mut array| {
            let mut rows = array.rows_mut().into_iter().collect::<Vec<_>>();
            // A frame is a column.
            for (at, frame) in features.chunks_exact(settings.n_mels).enumerate() {
                for (row, value) in rows.iter_mut().zip(frame) {
                    if let Some(cell) = row.get_mut(at) {
                        *cell = *value;
                    }
                }
            }
            Ok(())
        })?;
        Ok(vec![tensor])
    }
}

// The memory for a second of sound.
export_preprocess!(AudioFeatures, arena: 128 << 10);

fn settings() -> Result<Settings, Error> {
    let sample_rate = number("sample_rate", 16_000_u32, 1_000..=192_000)?;
    let n_fft = number("n_fft", 512, 16..=8192_usize)?;
    let half = f64::from(sample_rate) / 2.0;
    let settings = Settings {
        sample_rate,
        n_fft,
        win_length: number("win_length", 400, 1..=8192)?,
        hop_length: number("hop_length", 160, 1..=8192)?,
        n_mels: number("n_mels", 64, 1..=512)?,
        f_min: number("f_min", 0.0, 0.0..=half)?,
        f_max: number("f_max", half, 0.0..=half)?,
    };
    if !n_fft.is_power_of_two() || settings.win_length > n_fft || settings.f_min >= settings.f_max {
        return Err(Error::fault(
            "config: n_fft is a power of two, win_length at most that, f_min below f_max",
        ));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
