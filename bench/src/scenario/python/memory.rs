//! The memory of many calls of a handler in Python at once.

use std::time::{Duration, Instant};

use super::{BUDGET, Contestant, call, load, sandbox};
use crate::figures::number;
use crate::kernel::Mapped;
use crate::lab::Lab;
use crate::outcome::{Outcome, failure};
use crate::report::Report;

/// The target of the memory that a call touches.
pub const MEMORY: &str = "python-memory";

/// Calls whose memory is measured together.
const AT_ONCE: usize = 64;

/// Interval between two looks at the memory of calls that do not end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The difference in MiB between two looks at which these calls have done their task.
const SETTLED_MIB: f64 = 0.5;

/// Measures the memory of calls that have done their task and do not end.
pub async fn measure(lab: &Lab, report: &mut Report, contestants: &[Contestant]) -> Outcome<()> {
    let at_once = if lab.quick { 4 } else { AT_ONCE };
    report.section("Memory of handlers in Python", &format!("{at_once} calls of a handler at once, each on an instance of its own, after they have done their task. The figures are the kernel's for all of the bench's process (`smaps_rollup`). *Before* has one copy of the runtime's code and library, and the handler's image. *Added, RSS* counts a page of that image in each instance that has it, and *added, PSS* once. *Touched* is the former for each call. It has pages that the kernel maps beside one that is read. *Written* is what an instance has of its own."));
    let mut rows = Vec::new();
    let mut most = None;
    for contestant in contestants {
        // A new pool, whose memory no other handler has used.
        let sandbox = sandbox(lab, at_once)?;
        let handler = load(&sandbox, contestant)?;
        call(&handler, contestant).await?;
        let before = Mapped::of_this_process()?;
        let calls: Vec<_> = std::iter::repeat_with(|| {
            let (handler, input) = (handler.clone(), contestant.payload(true));
            tokio::spawn(async move { handler.preprocess("bench", input).await.map(drop) })
        })
        .take(at_once)
        .collect();
        let during = settled().await?;
        for call in &calls {
            call.abort();
        }
        for call in calls {
            // The task was aborted, as intended.
            if let Ok(ended) = call.await {
                return failure(format!("{}: a call ended: {ended:?}", contestant.task.name));
            }
        }
        // The memory of these calls is given back before that of the next ones is measured.
        drop((handler, sandbox));
        settled().await?;
        let each = |now: f64, then: f64| (now - then) / number(at_once);
        let touched = each(during.rss, before.rss);
        if contestant.task.is_numpy {
            most = Some(most.map_or(touched, |most: f64| most.max(touched)));
        }
        rows.push(vec![
            contestant.task.title.to_owned(),
            format!("{:.0}", number(contestant.component.len()) / 1e6),
            format!("{:.0}", before.rss),
            format!("{:.0}", during.rss - before.rss),
            format!("{:.0}", during.pss - before.pss),
            format!("{touched:.1}"),
            format!("{:.1}", each(during.written, before.written)),
        ]);
    }
    report.table(
        &[
            "",
            "component MB",
            "before MiB",
            "added, RSS MiB",
            "added, PSS MiB",
            "touched a call MiB",
            "written a call MiB",
        ],
        &rows,
    );
    if let Some(most) = most {
        report.reached(MEMORY, most);
    }
    Ok(())
}

/// The memory of this process, once it no longer changes.
async fn settled() -> Outcome<Mapped> {
    let (started, most) = (Instant::now(), Duration::from_millis(BUDGET.timeout_ms));
    let mut last = Mapped::of_this_process()?;
    while started.elapsed() < most {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Mapped::of_this_process()?;
        if (now.rss - last.rss).abs() < SETTLED_MIB {
            return Ok(now);
        }
        last = now;
    }
    failure("the memory of calls that hold does not settle")
}
