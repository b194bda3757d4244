//! Tables: a caption, heads of columns, and rows. A wide one scrolls by itself, also by keyboard.

use crate::html::Html;

/// A cell.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// The name of the row.
    Name(String),
    /// Text.
    Text(String),
    /// A number, aligned at its end.
    Number(String),
    /// A time, on one line.
    Time(String),
    /// A word about a state, with a colour besides.
    Word(Tone, String),
    /// Nothing to show.
    Empty,
}

/// The meaning of a colour, which a word beside it says too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Fine,
    /// Worth a look.
    Notice,
    /// Wrong.
    Bad,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Notice => "notice",
            Self::Bad => "bad",
        }
    }
}

impl Cell {
    /// Text, or nothing.
    pub(crate) fn optional(text: Option<&str>) -> Self {
        text.map_or(Self::Empty, |text| Self::Text(text.to_owned()))
    }
}

/// Writes a table, or a sentence in place of one without rows. `id` names it on the page.
pub(crate) fn write<const N: usize>(
    html: &mut Html,
    (id, caption, nothing): (&'static str, &'static str, &'static str),
    heads: [&'static str; N],
    rows: impl IntoIterator<Item = [Cell; N]>,
) {
    let mut rows = rows.into_iter().peekable();
    let Some(first) = rows.peek() else {
        html.markup("<p class=\"nothing\">")
            .markup(nothing)
            .markup("</p>\n");
        return;
    };
    html.markup("<div class=\"scroll\" role=\"region\" tabindex=\"0\" id=\"");
    html.markup(id).markup("\" aria-labelledby=\"").markup(id);
    html.markup("-caption\"><table><caption id=\"").markup(id);
    html.markup("-caption\">").markup(caption);
    html.markup("</caption>\n<thead><tr>");
    for (head, cell) in heads.into_iter().zip(first) {
        html.markup(match cell {
            Cell::Number(_) => "<th scope=\"col\" class=\"number\">",
            _ => "<th scope=\"col\">",
        });
        html.markup(head).markup("</th>");
    }
    html.markup("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.markup("<tr>");
        row.iter().for_each(|cell| write_cell(html, cell));
        html.markup("</tr>\n");
    }
    html.markup("</tbody></table></div>\n");
}

/// Says how many rows a table leaves out, if any.
pub(crate) fn write_more(html: &mut Html, all: usize, shown: usize) {
    let more = all.saturating_sub(shown);
    if more > 0 {
        html.markup("<p>And ").value(more).markup(" more.</p>\n");
    }
}

fn write_cell(html: &mut Html, cell: &Cell) {
    match cell {
        Cell::Name(text) => html.markup("<th scope=\"row\">").text(text).markup("</th>"),
        Cell::Text(text) => html.markup("<td>").text(text).markup("</td>"),
        Cell::Number(text) => (html.markup("<td class=\"number\">").text(text)).markup("</td>"),
        Cell::Time(text) => (html.markup("<td class=\"time\">").text(text)).markup("</td>"),
        Cell::Word(tone, text) => {
            html.markup("<td>");
            write_word(html, *tone, text);
            html.markup("</td>")
        }
        Cell::Empty => html.markup("<td class=\"empty\">–</td>"),
    };
}

/// Writes a word about a state, with a colour.
pub(crate) fn write_word(html: &mut Html, tone: Tone, text: &str) {
    html.markup("<span class=\"word ").markup(tone.class());
    html.markup("\">").text(text).markup("</span>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_caption_heads_and_escaped_cells() {
        let mut html = Html::default();
        let rows = [[
            Cell::Name("<i>a</i>".to_owned()),
            Cell::Word(Tone::Bad, "denied".to_owned()),
            Cell::Number("7".to_owned()),
            Cell::Empty,
        ]];
        write(
            &mut html,
            ("t", "What", "None."),
            ["A", "B", "C", "D"],
            rows,
        );
        let text = html.finish();
        for part in [
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" id=\"t\"",
            " aria-labelledby=\"t-caption\">",
            "<caption id=\"t-caption\">What</caption>",
            "<th scope=\"col\">B</th>",
            "<th scope=\"col\" class=\"number\">C</th>",
            "<th scope=\"row\">&lt;i&gt;a&lt;/i&gt;</th>",
            "<span class=\"word bad\">denied</span>",
            "<td class=\"empty\">–</td>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_table_without_rows_is_a_sentence() {
        let mut html = Html::default();
        write(&mut html, ("t", "What", "None."), ["A"], Vec::new());
        assert_eq!(html.finish(), "<p class=\"nothing\">None.</p>\n");
    }
}
