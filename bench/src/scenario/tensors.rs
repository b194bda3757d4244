//! Bodies of 600 KB, 8 MB and 575 KB of JSON: the cost of checking every value.

use crate::kernel::{peak_rss_mib, rss_mib};
use crate::lab::{Envoy, Lab, Server};
use crate::load::{Client, Expect, Http, Shot};
use crate::models::{
    FLOATS, HUGE_ELEMENTS, LARGE, STREAMED, UNREAD, binary_shot, grpc_shot, json_shot,
};
use crate::outcome::{Failure, Outcome};
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, NATIVE_GATE, Rendered, Upstream};
use crate::race::{Contender, Course, Result, race};
use crate::report::Report;

use super::{client, course};

/// The Envoys of this scenario.
struct Envoys {
    bare: Envoy,
    processor: Envoy,
    gate: Envoy,
    /// The same gate as a native module.
    module: Envoy,
    /// A native module that only holds and copies bodies.
    native_idle: Envoy,
    /// The same gate with a small `hold_bytes`, so that bodies are streamed.
    passing: Envoy,
    service: Server,
    _upstream: Server,
}

impl Envoys {
    async fn start(lab: &Lab) -> Outcome<Self> {
        let upstream = Server::start(lab, "upstream").await?;
        let service = Server::start(lab, "ext-proc").await?;
        let mut shape = Shape::plain(upstream.tcp()?);
        // By default a filter leaves bodies above 64 KiB to the host.
        shape.judge = Some("envoy");
        let render = |shape: &Shape| {
            let folder = lab.folder("tensors")?;
            Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)
        };
        let rendered = render(&shape)?;
        let module = Rendered::with_options(
            lab,
            lab.folder("tensors")?,
            &shape.to_json(),
            &upstream.socket,
            NATIVE_GATE,
        )?;
        shape.hold_bytes = Some("64KiB");
        let passing = render(&shape)?;
        let to = || Upstream::Unix(&upstream.socket);
        let holding = Filters::NativeModule {
            path: &lab.bin.join("libtensorgate_idle.so"),
            filter: "holding",
        };
        Ok(Self {
            bare: proxy::start(lab, "bare", Filters::None, to()).await?,
            processor: proxy::start(lab, "ext_proc", Filters::ExtProc(&service), to()).await?,
            gate: proxy::start(lab, "gate", Filters::Json(rendered.filters()?), to()).await?,
            module: proxy::start(lab, "module", Filters::Json(module.filters()?), to()).await?,
            native_idle: proxy::start(lab, "native-idle", holding, to()).await?,
            passing: proxy::start(lab, "passing", Filters::Json(passing.filters()?), to()).await?,
            service,
            _upstream: upstream,
        })
    }

    async fn race(
        &self,
        http: Http,
        shot: &Shot,
        also: Also<'_>,
        course: Course,
    ) -> Outcome<Vec<Result>> {
        let expect = match http {
            Http::One => Expect::Status(200),
            Http::Two => Expect::Grpc,
        };
        let keyed = |shot: &Shot| shot.clone().with("x-api-key", &key(0));
        let contender = |name: &str, envoy: &Envoy, shot, beside| Contender {
            name: name.to_owned(),
            client: client(&envoy.address, http, expect),
            shots: vec![shot],
            pid: envoy.process.pid(),
            beside,
        };
        let mut contenders = vec![
            contender("bare Envoy", &self.bare, shot.clone(), None),
            contender("gate, API key", &self.gate, keyed(shot)?, None),
            contender("gate as native module", &self.module, keyed(shot)?, None),
        ];
        if let Some(more) = also.unread {
            contenders.push(contender(
                "gate, a contract that checks no values",
                &self.gate,
                keyed(more)?,
                None,
            ));
        }
        if also.processor {
            let service = Some(("service", self.service.process.pid()));
            contenders.push(contender(
                "ext_proc, no-op service, body buffered",
                &self.processor,
                shot.clone(),
                service,
            ));
        }
        if also.passing {
            contenders.push(contender(
                "gate, API key, `hold_bytes: 64KiB`",
                &self.passing,
                keyed(shot)?,
                None,
            ));
        }
        contenders.push(contender(
            "native module that holds and copies",
            &self.native_idle,
            shot.clone(),
            None,
        ));
        race(&mut contenders, course).await
    }
}

/// The contenders beside a bare Envoy and the gate.
#[derive(Clone, Copy, Default)]
struct Also<'a> {
    /// A request to the gate for a model whose contract checks no values.
    unread: Option<&'a Shot>,
    /// Whether to include ext_proc.
    processor: bool,
    /// Whether to include the gate that streams bodies.
    passing: bool,
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let envoys = Envoys::start(lab).await?;

    report.section(
        "600 KB of FP32: one normalised photograph",
        "Over gRPC with raw contents, then over REST with the binary extension.",
    );
    let results = envoys
        .race(
            Http::Two,
            &grpc_shot(LARGE)?,
            Also {
                processor: true,
                passing: true,
                ..Also::default()
            },
            course(lab, 9, 300),
        )
        .await?;
    report.race(&results, 0);
    let [bare, gate, _, processor, ..] = results.as_slice() else {
        return Err(Failure::from("a contender is missing"));
    };
    report.reached("grpc-600k", gate.over(bare));
    report.reached(
        "ext-proc-600k",
        gate.added_to(bare) / processor.added_to(bare),
    );
    let results = envoys
        .race(
            Http::One,
            &binary_shot(LARGE)?,
            Also {
                passing: true,
                ..Also::default()
            },
            course(lab, 9, 300),
        )
        .await?;
    report.race(&results, 0);
    if let [bare, gate, module, ..] = results.as_slice() {
        report.reached("binary-600k", gate.over(bare));
        report.reached("module-binary-600k", module.over(bare));
    }

    report.section("8 MB of FP32", "Over gRPC, then over REST with the binary extension. The contract that checks no values saves the scan for NaN, infinity and range.");
    let results = envoys
        .race(
            Http::Two,
            &grpc_shot(FLOATS)?,
            Also {
                unread: Some(&grpc_shot(UNREAD)?),
                processor: true,
                passing: true,
            },
            course(lab, 7, 24),
        )
        .await?;
    report.race(&results, 0);
    if let [bare, gate, _, unread, ..] = results.as_slice() {
        report.reached("grpc-8m", gate.over(bare));
        let bytes = crate::figures::number(HUGE_ELEMENTS) * 4.0;
        report.reached("scan-rate", bytes / gate.added_to(unread) / 1000.0);
    }
    let results = envoys
        .race(
            Http::One,
            &binary_shot(FLOATS)?,
            Also {
                passing: true,
                ..Also::default()
            },
            course(lab, 7, 24),
        )
        .await?;
    report.race(&results, 0);
    if let [bare, gate, ..] = results.as_slice() {
        report.reached("binary-8m", gate.over(bare));
    }

    streamed(lab, report, &envoys).await?;

    report.section(
        "575 KB of JSON floats",
        "Each number is checked, grammar and range, in the filter. The list is not converted.",
    );
    let shot = json_shot(FLOATS)?;
    let results = envoys
        .race(Http::One, &shot, Also::default(), course(lab, 9, 120))
        .await?;
    report.race(&results, 0);
    if let [bare, gate, module, ..] = results.as_slice() {
        report.reached("json-575k", gate.over(bare));
        report.reached("module-json-575k", module.over(bare));
        let bytes = crate::figures::number(shot.body_bytes());
        report.reached("json-rate", bytes / gate.added_to(bare) / 1000.0);
    }
    Ok(())
}

/// A body that is larger than the buffers. The second figure is memory.
async fn streamed(lab: &Lab, report: &mut Report, envoys: &Envoys) -> Outcome<()> {
    report.section(
        "256 MiB of FP32, streamed",
        "One request at a time, checked as it is streamed: over gRPC, then over REST with the binary extension. Memory is Envoy's before, and its peak.",
    );
    let course = Course {
        rounds: if lab.quick { 1 } else { 5 },
        requests: if lab.quick { 1 } else { 2 },
        warm_up: 1,
    };
    let both = [
        ("bare Envoy", &envoys.bare),
        ("gate, API key", &envoys.gate),
    ];
    let mut before = Vec::new();
    for (_, envoy) in both {
        before.push(rss_mib(envoy.process.pid())?);
    }
    for (id, http, expect, shot) in [
        (
            "streamed-grpc",
            Http::Two,
            Expect::Grpc,
            grpc_shot(STREAMED)?,
        ),
        (
            "streamed-binary",
            Http::One,
            Expect::Status(200),
            binary_shot(STREAMED)?,
        ),
    ] {
        let shot = shot.with("x-api-key", &key(0))?;
        let mut contenders = both.map(|(name, envoy)| Contender {
            name: name.to_owned(),
            client: Client::new(envoy.address.clone(), http, expect, 1),
            shots: vec![shot.clone()],
            pid: envoy.process.pid(),
            beside: None,
        });
        let results = race(&mut contenders, course).await?;
        report.race(&results, 0);
        if let [bare, gate] = results.as_slice() {
            report.reached(id, gate.over(bare));
        }
    }
    let mut rows = Vec::new();
    let mut grown = 0.0;
    for ((name, envoy), before) in both.into_iter().zip(before) {
        let peak = peak_rss_mib(envoy.process.pid())?;
        rows.push(vec![
            name.to_owned(),
            format!("{before:.0}"),
            format!("{peak:.0}"),
        ]);
        // The gate comes last.
        grown = peak - before;
    }
    report.table(&["", "RSS before, MiB", "peak RSS, MiB"], &rows);
    report.reached("streamed-memory", grown);
    Ok(())
}
