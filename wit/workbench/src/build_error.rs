//! The message of a failed build: the author's own error and the lines that led to it, without the
//! frames of the tool.
//!
//! componentize-py and componentize-qjs run the handler's modules in a sandbox of their own. They
//! print an exception there among their own frames, or below a backtrace of WebAssembly.

/// The first word of an error by `world_check.py` or `world_check.js`. Its text needs no traceback.
const MISMATCH: &str = "WorldMismatch: ";

/// What precedes an error of JavaScript: the tool's own step.
const JS_STEP: &str = "Failed to evaluate user JavaScript module: ";

/// What begins each traceback of Python.
const TRACEBACK: &str = "Traceback (most recent call last):\n";

/// A frame of the project's modules in a traceback. componentize-py mounts the project as `/0`.
const PYTHON_FRAME: &str = "  File \"/0/";

/// The cause of a build that a call of `sys.exit` ended.
const EXITED: &str = "\n    1: Exited";

/// The error of a module that ended the interpreter without a text.
const NO_TEXT: &str = "a module of the handler ended the interpreter while it was imported";

/// The folder of the build's own modules in a stack of JavaScript.
const JS_ENTRY: &str = "/build/js/";

/// Maximum number of frames in a message: the innermost of Python, which prints the outermost
/// first, and the first of JavaScript.
const MAX_FRAMES: usize = 8;

/// Packages with native code for which the tensor kit is the replacement.
const REPLACED_BY_KIT: [&str; 5] = ["numpy", "torch", "torchvision", "PIL", "cv2"];

/// An error of the author's code.
struct AuthorError {
    text: String,
    /// The author's lines that led to it, one a string.
    frames: Vec<String>,
    /// What the handler's modules printed.
    printed: String,
}

/// The message for the author, from what a failed tool printed.
pub fn message(failure: &str) -> String {
    let Some(error) = python_error(failure).or_else(|| js_error(failure)) else {
        return failure.to_owned();
    };
    if let Some(mismatch) = error.text.strip_prefix(MISMATCH) {
        return mismatch.to_owned();
    }
    let fix = fix(&error.text);
    let mut message = error.text;
    for frame in &error.frames {
        message.push_str("\n  ");
        message.push_str(frame);
    }
    if let Some(fix) = fix {
        message.push_str("\nfix: ");
        message.push_str(&fix);
    }
    if !error.printed.is_empty() {
        message.push_str("\nprinted:\n");
        message.push_str(&error.printed);
    }
    message
}

/// The last line of Python's traceback, which may be several if the exception's text is.
fn python_error(failure: &str) -> Option<AuthorError> {
    let (traceback, causes) = failure.rsplit_once("\nCaused by:\n")?;
    // Several causes are numbered. There the interpreter itself ended. If it crashed, the tool's
    // output is all that is known.
    if causes.trim_start().starts_with("0: ") {
        return (causes.contains(EXITED)).then(|| exited(traceback));
    }
    let lines: Vec<&str> = causes
        .lines()
        .map_while(|line| {
            let text = line.strip_prefix("    ");
            text.or_else(|| line.is_empty().then_some(line))
        })
        .collect();
    let text = lines.join("\n").trim().to_owned();
    let printed: Vec<&str> = causes.lines().skip(lines.len()).collect();
    (!text.is_empty()).then(|| AuthorError {
        text,
        frames: python_frames(traceback),
        printed: printed.join("\n").trim().to_owned(),
    })
}

/// The error of an interpreter that `sys.exit` ended: the last of what it printed, which is the
/// author's text.
fn exited(traceback: &str) -> AuthorError {
    let last = traceback.trim_end().lines().next_back();
    let text = last.map(|last| last.strip_prefix("AssertionError:").unwrap_or(last));
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    AuthorError {
        text: text.unwrap_or(NO_TEXT).to_owned(),
        frames: Vec::new(),
        printed: String::new(),
    }
}

/// The innermost frames of the project's modules in the last traceback.
fn python_frames(traceback: &str) -> Vec<String> {
    let (_, last) = traceback.rsplit_once(TRACEBACK).unwrap_or_default();
    let mut frames: Vec<String> = last.lines().filter_map(python_frame).collect();
    frames.split_off(frames.len().saturating_sub(MAX_FRAMES))
}

/// A frame as `file:line in function`. The place of a syntax error is no frame: its text has it.
fn python_frame(line: &str) -> Option<String> {
    let (file, rest) = line.strip_prefix(PYTHON_FRAME)?.split_once("\", line ")?;
    let (number, function) = rest.split_once(", in ")?;
    Some(match function {
        "<module>" => format!("{file}:{number}"),
        _ => format!("{file}:{number} in {function}"),
    })
}

/// What to do about a module that a component lacks.
fn fix(error: &str) -> Option<String> {
    let named = error.strip_prefix("ModuleNotFoundError: No module named '")?;
    let (module, _) = named.split_once('\'')?;
    let package = module.split('.').next().unwrap_or(module);
    Some(if REPLACED_BY_KIT.contains(&package) {
        format!(
            "a component cannot contain {package}: use the tensor kit, which tensorgate/__init__.py of the project describes"
        )
    } else {
        "a component has only modules of pure Python: copy the package into the project's folder"
            .to_owned()
    })
}

/// The text of a JavaScript error, and the author's frames of its stack.
fn js_error(failure: &str) -> Option<AuthorError> {
    let (_, rest) = failure.split_once(JS_STEP)?;
    let (_, error) = rest.split_once(": ")?;
    let error = error.strip_prefix("Error: ").unwrap_or(error);
    let (text, stack) = (error.split_once("\n    at "))
        .unwrap_or_else(|| (error.lines().next().unwrap_or_default(), ""));
    let frames = stack
        .lines()
        .enumerate()
        .map_while(|(index, line)| {
            if index == 0 {
                Some(line)
            } else {
                line.strip_prefix("    at ")
            }
        })
        .filter(|frame| !frame.contains(JS_ENTRY))
        .take(MAX_FRAMES)
        .map(|frame| format!("at {frame}"));
    (!text.is_empty()).then(|| AuthorError {
        text: text.to_owned(),
        frames: frames.collect(),
        printed: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: &str =
        "componentize-py failed (exit status: 1):\nTraceback (most recent call last):\n";

    #[test]
    fn a_handler_that_does_not_fit_its_world_needs_no_traceback() {
        let python = format!(
            "{PYTHON}AssertionError: Traceback (most recent call last):\n  File \"/1/tensorgate_entry.py\", line 9\nWorldMismatch: handler.py defines no function preprocess(input)\nfound: process\n\n\nCaused by:\n    WorldMismatch: handler.py defines no function preprocess(input)\n    found: process"
        );
        assert_eq!(
            message(&python),
            "handler.py defines no function preprocess(input)\nfound: process"
        );
        let js = format!(
            "componentize-qjs failed (exit status: 1):\nError: : {JS_STEP}Failed to finish JavaScript module evaluation: Error: WorldMismatch: handler.js exports no function preprocess(input)\nfound: process\n    at check (/build/js/world_check.js:21:37)\n\ncomponentize-qjs\n  WIT:    wit"
        );
        assert_eq!(
            message(&js),
            "handler.js exports no function preprocess(input)\nfound: process"
        );
    }

    #[test]
    fn the_authors_error_and_lines_stand_without_those_of_the_tool() {
        let js = |error: &str| {
            format!(
                "componentize-qjs failed (exit status: 1):\nError: : {JS_STEP}Failed to declare JavaScript module: {error}\n\ncomponentize-qjs\n  WIT:    wit"
            )
        };
        let frames = |error: &str| {
            format!(
                "{PYTHON}  File \"/opt/bin/componentize-py\", line 8, in <module>\n    sys.exit(script())\nAssertionError: Traceback (most recent call last):\n  File \"/1/tensorgate_entry.py\", line 9, in <module>\n    import handler\n  File \"/0/handler.py\", line 1, in <module>\n    import helper\n  File \"/0/helper.py\", line 4, in load\n    ~~~~^^\n  File \"/0/table.py\", line 1\n{error}\n\n\nCaused by:\n    {error}"
            )
        };
        for (failure, expected) in [
            (
                frames("ModuleNotFoundError: No module named 'numpy.linalg'"),
                "ModuleNotFoundError: No module named 'numpy.linalg'\n  handler.py:1\n  helper.py:4 in load\nfix: a component cannot contain numpy: use the tensor kit, which tensorgate/__init__.py of the project describes",
            ),
            (
                frames("ModuleNotFoundError: No module named 'yaml'"),
                "ModuleNotFoundError: No module named 'yaml'\n  handler.py:1\n  helper.py:4 in load\nfix: a component has only modules of pure Python: copy the package into the project's folder",
            ),
            (
                frames("SyntaxError: expected ':' (table.py, line 1)"),
                "SyntaxError: expected ':' (table.py, line 1)\n  handler.py:1\n  helper.py:4 in load",
            ),
            (
                format!("{PYTHON}\nCaused by:\n    ValueError: one\n\n      two\nprinted"),
                "ValueError: one\n\n  two\nprinted:\nprinted",
            ),
            (
                format!(
                    "{PYTHON}AssertionError: bye\n\n\nCaused by:\n    0: error while executing at wasm backtrace:\n           0:  0x22935 - libc.so!exit_exit\n    1: Exited"
                ),
                "bye",
            ),
            (
                format!(
                    "{PYTHON}AssertionError: \n\n\nCaused by:\n    0: error while executing at wasm backtrace:\n    1: Exited"
                ),
                NO_TEXT,
            ),
            (
                js("Error: unexpected token: '}'\n    at /handler.js:3:1"),
                "unexpected token: '}'\n  at /handler.js:3:1",
            ),
            (
                js(
                    "Error: one\n\ntwo\n    at f (/handler.js:3:1)\n    at g (/build/js/entry.js:1:1)\n    at /handler.js:9:1",
                ),
                "one\n\ntwo\n  at f (/handler.js:3:1)\n  at /handler.js:9:1",
            ),
            (
                js("Exception generated by quickjs: String(Ok(\"text\"))"),
                "Exception generated by quickjs: String(Ok(\"text\"))",
            ),
        ] {
            assert_eq!(message(&failure), expected);
        }
    }

    #[test]
    fn only_the_innermost_frames_are_shown() {
        let frame = |line: usize| format!("  File \"/0/handler.py\", line {line}, in f\n");
        let traceback: String = (0..20).map(frame).collect();
        let failure = format!("{PYTHON}{traceback}\nCaused by:\n    RecursionError: too deep");
        let message = message(&failure);
        assert_eq!(message.lines().count(), 9, "{message}");
        assert!(message.ends_with("  handler.py:19 in f"), "{message}");
    }

    #[test]
    fn other_output_is_unchanged() {
        for failure in [
            "",
            "componentize-py failed (signal: 9):\n",
            "\nCaused by:\n",
            "\nAssertionError: \n\nCaused by:\n    0: error while executing at wasm backtrace:",
            JS_STEP,
        ] {
            assert_eq!(message(failure), failure);
        }
    }
}
