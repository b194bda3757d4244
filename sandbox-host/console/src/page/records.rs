//! The sections of the policy in force with its changes, and of the audit log with its chain.

use tensorgate_audit::record::ArtifactAction;

use super::now::short_time;
use super::write_time;
use crate::html::Html;
use crate::rows::ArtifactRow;
use crate::snapshot::{AuditState, GatewayRow, LoadAttempt, Running};
use crate::table::{self, Cell, Tone, write_word};
use crate::units::{count, seconds};

/// How much of a digest is shown.
const DIGEST_DIGITS: usize = 16;
/// The most gateways that are shown.
const SHOWN_GATEWAYS: usize = 64;

/// The policy in force, the ones before it, and what was loaded or rejected.
pub(super) fn write_policy(html: &mut Html, running: &Running) {
    let policy = &running.policy;
    html.markup("<p>Policy <code>").text(&policy.serving);
    html.markup("</code> is in force");
    if let Some(change) = &running.status.last_policy_change {
        html.markup(" since ").text(&short_time(&change.time));
        match &change.was {
            Some(was) => html.markup(", after <code>").text(was).markup("</code>"),
            None => html.markup(", the host's start"),
        };
    }
    html.markup(".</p>\n");
    for (generation, for_s) in &policy.superseded {
        html.markup("<p>For requests that were admitted under it, <code>");
        html.text(generation).markup("</code> is kept for another ");
        html.value(for_s).markup(" s.</p>\n");
    }
    write_attempt(html, "The last bundle", policy.last.as_ref());
    if policy
        .last
        .as_ref()
        .is_none_or(|it| it.outcome != "refused")
    {
        write_attempt(
            html,
            "The last refused bundle",
            policy.last_refused.as_ref(),
        );
    }
    let policies = running.recent.policies.iter();
    table::write(
        html,
        (
            "history",
            "Policies that came into force since the host started, the latest first",
            "The policy has not changed since the host started.",
        ),
        ["When", "Policy"],
        policies.map(|it| {
            [
                Cell::Time(seconds(it.time)),
                Cell::Name(it.generation.clone()),
            ]
        }),
    );
    table::write(
        html,
        (
            "artifacts",
            "What was verified, loaded and rejected, the latest first",
            "Nothing was loaded or rejected since the host started.",
        ),
        ["When", "What", "Kind", "Name", "Digest", "Signer", "Detail"],
        running.recent.artifacts.iter().map(artifact),
    );
    let mut gateways: Vec<_> = policy.gateways.iter().collect();
    // Those with a version that the host does not have first.
    gateways.sort_by_key(|it| it.is_known);
    table::write(
        html,
        (
            "gateways",
            "Gateways that sent requests",
            "No gateway has sent a request yet.",
        ),
        ["Gateway", "Policy", "Known here", "Last seen"],
        gateways.into_iter().take(SHOWN_GATEWAYS).map(gateway),
    );
    table::write_more(html, policy.gateways.len(), SHOWN_GATEWAYS);
}

fn write_attempt(html: &mut Html, what: &'static str, attempt: Option<&LoadAttempt>) {
    let Some(attempt) = attempt else {
        return;
    };
    html.markup("<p>").markup(what).markup(", ");
    match &attempt.generation {
        Some(generation) => html.markup("<code>").text(generation).markup("</code>"),
        None => html.markup("which could not be read"),
    };
    html.markup(", was ");
    let tone = match attempt.outcome {
        "loaded" | "unchanged" => Tone::Fine,
        _ => Tone::Bad,
    };
    write_word(html, tone, attempt.outcome);
    html.markup(" at ");
    write_time(html, attempt.time);
    html.markup(".</p>\n");
    if !attempt.faults.is_empty() {
        html.markup("<ul>\n");
        for fault in &attempt.faults {
            html.markup("<li>").text(fault).markup("</li>\n");
        }
        html.markup("</ul>\n");
    }
}

fn artifact(row: &ArtifactRow) -> [Cell; 7] {
    let record = &row.record;
    let tone = match record.action {
        ArtifactAction::Rejected => Tone::Bad,
        ArtifactAction::Unloaded => Tone::Notice,
        ArtifactAction::Scanned | ArtifactAction::Verified | ArtifactAction::Loaded => Tone::Fine,
    };
    let name = match &record.version {
        Some(version) => format!("{} version {version}", record.name),
        None => record.name.clone(),
    };
    let digest = record.digest.as_deref();
    let digest = digest.map(|it| it.get(..DIGEST_DIGITS).unwrap_or(it));
    [
        Cell::Time(seconds(row.time)),
        Cell::Word(tone, record.action.name().to_owned()),
        Cell::Text(record.kind.name().to_owned()),
        Cell::Name(name),
        Cell::optional(digest),
        Cell::optional(record.signer.as_deref()),
        Cell::optional(record.detail.as_deref()),
    ]
}

fn gateway(row: &GatewayRow) -> [Cell; 4] {
    let known = match row.is_known {
        true => Cell::Word(Tone::Fine, "yes".to_owned()),
        false => Cell::Word(Tone::Bad, "no, the newest decides".to_owned()),
    };
    [
        Cell::Name(row.name.clone()),
        Cell::Text(row.generation.clone()),
        known,
        Cell::Text(format!("{} s ago", row.last_seen_s)),
    ]
}

/// The state of the audit log and its chain.
pub(super) fn write_audit(html: &mut Html, running: &Running) {
    let audit = &running.audit;
    html.markup("<p>");
    write_chain(html, audit);
    html.markup(" Log <code>")
        .text(&audit.log)
        .markup("</code>, last record ");
    html.text(&count(audit.last_seq)).markup(". ");
    if let Some(checkpoint) = &running.recent.checkpoint {
        html.markup("Last checkpoint at ");
        write_time(html, checkpoint.time);
        html.markup(", after ").text(&count(checkpoint.decisions));
        html.markup(" requests and ")
            .text(&count(checkpoint.dropped));
        html.markup(" dropped records. ");
    }
    let queued = u64::try_from(audit.queued).unwrap_or_default();
    html.text(&count(queued))
        .markup(" records wait to be written.</p>\n");
    let facts = [
        ("Records that were lost", audit.dropped),
        ("Outcomes known only to Envoy that were lost", audit.lost),
        (
            "Times that the file was removed, replaced or changed",
            audit.file_losses,
        ),
    ];
    let facts = facts.map(|(name, number)| {
        let tone = if number == 0 { Tone::Fine } else { Tone::Bad };
        [Cell::Name(name.to_owned()), Cell::Word(tone, count(number))]
    });
    let texts = ("audit-facts", "Since the host started", "");
    table::write(html, texts, ["What", "Number"], facts);
    let found = audit.found.iter();
    table::write(
        html,
        (
            "damage",
            "Damage that the host found in the log when it started",
            "The host found no damage in the log when it started.",
        ),
        ["What", "Detail"],
        found.map(|it| {
            [
                Cell::Word(Tone::Bad, it.what.clone()),
                Cell::Text(it.detail.clone()),
            ]
        }),
    );
    let losses = running.recent.losses.iter();
    table::write(
        html,
        (
            "losses",
            "Records that were lost, the latest first",
            "No record was lost.",
        ),
        ["When", "Number", "Where"],
        losses.map(|it| {
            [
                Cell::Time(seconds(it.time)),
                Cell::Number(count(it.count)),
                Cell::Text(it.cause.clone()),
            ]
        }),
    );
    html.markup("<p class=\"note\"><code>tensorgate audit verify</code> finds what was done to ");
    html.markup("the file.</p>\n");
}

fn write_chain(html: &mut Html, audit: &AuditState) {
    if let Some((cause, since)) = &audit.failure {
        write_word(html, Tone::Bad, "not written");
        html.markup(" since ");
        write_time(html, *since);
        html.markup(": ").text(cause).markup(".");
        return;
    }
    write_word(html, Tone::Fine, "written");
    match &audit.key_id {
        Some(id) => {
            html.markup(" Each record has the hash of the one before, and checkpoints are ");
            html.markup("signed with key <code>")
                .text(id)
                .markup("</code>.");
        }
        None => {
            html.markup(" Its records have no chain (<code>audit.chain: false</code>).");
        }
    }
}
