//! The table that the demo prints: a line for each row, and whether it is as expected.

/// Whether an answer is as expected, and the columns of the table about it.
pub struct Answer {
    /// The status, or what kind of answer it is.
    pub answer: String,
    /// The reason of a rejection, or the content.
    pub reason: String,
    /// Whether it is the expected one.
    pub is_expected: bool,
}

impl Answer {
    /// That there was no answer, and why.
    pub fn none(error: &anyhow::Error) -> Self {
        Self {
            answer: "none".to_owned(),
            reason: format!("{error:#}"),
            is_expected: false,
        }
    }
}

/// Counts the printed rows.
pub struct Table {
    /// All rows.
    pub rows: usize,
    /// Rows that were not as expected.
    pub wrong: usize,
}

impl Table {
    /// Prints the head of the table.
    pub fn start() -> Self {
        print_line("request", "expected", "answer", "reason", "");
        Self { rows: 0, wrong: 0 }
    }

    /// Prints a row.
    pub fn add(&mut self, title: &str, expected: &str, answer: &Answer) {
        let Answer {
            answer,
            reason,
            is_expected,
        } = answer;
        self.rows = self.rows.saturating_add(1);
        self.wrong = self.wrong.saturating_add(usize::from(!is_expected));
        let verdict = if *is_expected { "ok" } else { "WRONG" };
        print_line(title, expected, answer, reason, verdict);
    }
}

fn print_line(request: &str, expected: &str, answer: &str, reason: &str, verdict: &str) {
    println!("{request:<52} {expected:<24} {answer:<10} {reason:<38} {verdict}");
}
