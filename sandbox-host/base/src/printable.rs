//! Text of files and names for terminals and logs.

/// Text with control characters replaced, so that a file cannot send escape sequences to a terminal
/// or reorder what is shown.
pub fn printable(text: &str) -> String {
    let reorders = |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_hidden = |c: char| c.is_control() || reorders(c);
    let shown = |c| if is_hidden(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}
