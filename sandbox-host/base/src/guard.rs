//! Isolates requests from each other: a panic becomes an error response, and long computations run
//! on separate threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The most bytes that are decoded or encoded on the current thread: about a millisecond of JSON.
const INLINE_BYTES: usize = 256 << 10;

/// Awaits a future and converts a panic to its message. What the future owned is dropped before
/// this returns.
pub async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // The future is never polled again after a panic, so no partial state is seen.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
        }
    })
    .await
}

/// Runs a computation over this many bytes, on a separate thread if they are many. Returns `None`
/// if it panicked there.
pub async fn offload<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if bytes <= INLINE_BYTES {
        return Some(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(cause = error.to_string(), "a computation failed");
            None
        }
    }
}

/// Logs each panic of this process as one line. The standard library would print its text as it is,
/// and that may have a line end of a client, and after it what looks like a line of the audit log.
/// `flush` writes the last lines, because a process ends with its main thread.
pub fn log_panics(flush: impl Fn() + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(cause = panic.to_string(), "a thread panicked");
        if std::thread::current().name() == Some("main") {
            flush();
        }
    }));
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]
    use std::fmt::{Debug, Write as _};
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::with_default;
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Held by each test that panics. A process has one panic hook, and `tracing` asks only the
    /// thread that logs a line first whether anything reads it, and keeps the answer.
    static PANICS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// A log that has the fields of events as a subscriber formats them.
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<String>>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
        }
    }

    impl Subscriber for Fields {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let _alone = PANICS.blocking_lock();
        log_panics(|| {});
        let log = Fields::default();
        let caught: std::thread::Result<()> = with_default(log.clone(), || {
            catch_unwind(|| panic!("a client's\n{{\"v\":1,\"seq\":1}}"))
        });
        drop(std::panic::take_hook());
        assert!(caught.is_err());
        let text = log.0.lock().unwrap().clone();
        assert!(text.contains("a thread panicked"), "{text}");
        assert!(text.contains("a client's\\n{"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[tokio::test]
    async fn a_panic_becomes_its_message() {
        let _alone = PANICS.lock().await;
        assert_eq!(catch_panic(async { 1 }).await, Ok(1));
        assert_eq!(
            catch_panic(async { panic!("at {}", 7) }).await,
            Err::<(), _>("at 7".to_owned())
        );
        let late = async {
            tokio::task::yield_now().await;
            panic!("late")
        };
        assert_eq!(catch_panic(late).await, Err::<(), _>("late".to_owned()));
    }

    #[tokio::test]
    async fn long_work_leaves_the_thread_and_short_work_stays() {
        let _alone = PANICS.lock().await;
        let here = std::thread::current().id();
        for (bytes, stays) in [(0, true), (INLINE_BYTES, true), (INLINE_BYTES + 1, false)] {
            let ran = offload(bytes, || std::thread::current().id()).await;
            assert_eq!(ran == Some(here), stays, "{bytes} bytes");
        }
        assert_eq!(offload(usize::MAX, || panic!("far away")).await, None::<()>);
    }
}
