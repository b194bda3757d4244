//! Limits of generation, and the output constraints that a policy allows by name.

use tensorgate_policy::contract::openai::Generation;
use tensorgate_policy::contract::openai::constraints::{Constraints, KEYWORDS, MEMBERS};
use tensorgate_policy::report::{Path, optional};

use super::{Reader, profile};
use crate::raw::{self, ByteSize, Profile};

/// Default size of a constraint.
const DEFAULT_CONSTRAINT_BYTES: u64 = 4 << 10;
/// What to write instead of a key of earlier versions.
const EARLIER_FIX: &str = "remove it; max_bytes: 4KiB and max_depth: 8 bound each of members, and \
    members: [pattern] allows patterns in schemas";

/// Generation settings in a section of the policy.
pub(super) struct GenerationSpec<'r> {
    pub(super) max_tokens: Option<raw::MaxTokens>,
    pub(super) n: raw::MaxChoices,
    pub(super) stop: Option<raw::MaxStop>,
    pub(super) stream: bool,
    pub(super) logprobs: Option<raw::MaxLogprobs>,
    pub(super) constraints: Option<&'r raw::Constraints>,
    /// Whether requests contain schemas of tools or formats.
    pub(super) schemas: bool,
}

impl Reader {
    pub(super) fn generation(&self, path: &Path, raw: &GenerationSpec<'_>) -> Option<Generation> {
        let tokens_path = path.field("max_tokens");
        let max_tokens = tokens_path
            .required(raw.max_tokens, "max_tokens: 1024")
            .and_then(|tokens| tokens.check(&tokens_path));
        let n = raw.n.check(&path.field("n"));
        let is_sdk = self.profile == Some(Profile::Sdk);
        let (mut stop, mut logprobs) = (raw.stop, raw.logprobs);
        if is_sdk {
            stop = stop.or(Some(profile::SDK_STOP.into()));
            logprobs = logprobs.or(Some(profile::SDK_LOGPROBS.into()));
        }
        let stop = stop.unwrap_or(0.into()).check(&path.field("stop"));
        let logprobs = optional(logprobs, |most| most.check(&path.field("logprobs")));
        let constraints = optional(raw.constraints, |rule| {
            self.constraints(&path.field("constraints"), rule, raw.schemas)
        });
        Some(Generation {
            max_tokens: max_tokens?,
            n: n?,
            stop: stop?,
            stream: raw.stream,
            logprobs: logprobs?,
            constraints: constraints?,
        })
    }

    fn constraints(
        &self,
        path: &Path,
        raw: &raw::Constraints,
        schemas: bool,
    ) -> Option<Constraints> {
        let current = self.current(path, raw);
        let known: Vec<&str> = MEMBERS.iter().chain(&KEYWORDS).copied().collect();
        let members_path = path.field("members");
        let members = self.words(&members_path, &raw.members, &known);
        let bounding = self.bounding(path, raw, schemas);
        let size = raw
            .max_bytes
            .unwrap_or(ByteSize(DEFAULT_CONSTRAINT_BYTES.min(self.hold_bytes)));
        let max_bytes = path
            .field("max_bytes")
            .bytes_within(size, 1, self.hold_bytes);
        let max_depth = raw
            .max_depth
            .unwrap_or_default()
            .check(&path.field("max_depth"));
        current.and(bounding)?;
        Some(Constraints {
            members: members?,
            max_bytes: max_bytes?,
            max_depth: max_depth?,
        })
    }

    /// Reports keys of earlier versions: they bounded what an analysis read, which is gone.
    fn current(&self, path: &Path, raw: &raw::Constraints) -> Option<()> {
        let mut valid = Some(());
        for (name, earlier) in [
            ("patterns", raw.patterns),
            ("choices", raw.choices),
            ("grammars", raw.grammars),
            ("max_schema_bytes", raw.max_schema_bytes),
        ] {
            if earlier.is_some() {
                valid = path.field(name).fail_with_fix(
                    "is no longer a rule: constraints are bounded by size and depth, not analysed",
                    EARLIER_FIX,
                );
            }
        }
        valid
    }

    /// Every bound needs a member, and every keyword a schema.
    fn bounding(&self, path: &Path, raw: &raw::Constraints, schemas: bool) -> Option<()> {
        let mut valid = Some(());
        for (name, is_there) in [
            ("max_bytes", raw.max_bytes.is_some()),
            ("max_depth", raw.max_depth.is_some()),
        ] {
            if is_there && raw.members.is_empty() {
                let fix = "members: [guided_choice], or another that the server supports";
                valid = path
                    .field(name)
                    .fail_with_fix("has no effect without a member that it bounds", fix);
            }
        }
        for (index, name) in raw.members.iter().enumerate() {
            if KEYWORDS.contains(&name.as_str()) && !schemas {
                valid = path.field("members").index(index).fail_with_fix(
                    "is a keyword of JSON schemas, and no schema is allowed",
                    "tools, or response_format: [json_schema], of chat",
                );
            }
        }
        valid
    }
}
