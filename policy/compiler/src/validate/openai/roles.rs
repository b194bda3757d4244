//! Roles of messages, and whether a conversation with calls of functions can go on.

use tensorgate_policy::report::Path;

/// The API's roles.
pub(super) const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
/// Those of a policy that lists none.
const DEFAULT_ROLES: [&str; 3] = ["system", "user", "assistant"];
/// Messages of a request with a function's result: a question, the call and the result.
const MIN_CALL_MESSAGES: usize = 3;

/// The allowed roles, with those that follow from others: `developer` is the later name of
/// `system`, and what calls functions gets their results.
pub(super) fn with_implied(listed: Vec<String>, has_tools: bool) -> Vec<String> {
    let mut roles: Vec<String> = if listed.is_empty() {
        DEFAULT_ROLES.map(String::from).into()
    } else {
        listed
    };
    let has_system = roles.iter().any(|role| role == "system");
    for (role, follows) in [("developer", has_system), ("tool", has_tools)] {
        if follows && !roles.iter().any(|known| known == role) {
            roles.push(role.into());
        }
    }
    roles
}

/// Warns of a policy that allows the first turn of a function call and refuses the second, in which
/// the client sends the call back with its result.
pub(super) fn check_second_turns(path: &Path, roles: &[String], max_messages: Option<usize>) {
    if !roles.iter().any(|role| role == "assistant") {
        path.field("roles").warn(
            "lacks assistant, so that answers may call functions, and the results are refused",
            "roles: [system, user, assistant]",
        );
    }
    if max_messages.is_some_and(|most| most < MIN_CALL_MESSAGES) {
        path.field("max_messages").warn(
            "is too few for the result of a function: a request with it has a question, the call \
             and the result",
            format!("max_messages: {MIN_CALL_MESSAGES}, or more for several calls"),
        );
    }
}
