//! Pickles that are plain data, and the ways to hide code in one.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::io::Cursor;

use super::super::finding::{Report, Verdict};
use super::super::limits::Limits;
use super::legacy::PREFIX;
use super::{legacy_torch, scan, scan_torch};

/// A tensor of two elements, as torch pickles it.
const TENSOR: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((\x8c\x07storage\
    ctorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89\
    ccollections\nOrderedDict\n)RtR.";
/// A dtype of objects up to its state's flags: GLOBAL, arguments, REDUCE, the state's first items.
const OBJECT_DTYPE: &[u8] = b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R(K\x03\x8c\x01|NNN\
    J\xff\xff\xff\xffJ\xff\xff\xff\xff";

fn report(pickle: &[u8]) -> Report {
    scan(&mut Cursor::new(pickle), &Limits::default()).unwrap()
}

/// Checks the verdict, and that a finding has the rule.
fn check(pickle: &[u8], verdict: Verdict, rule: &str) -> Report {
    let report = report(pickle);
    let shown = pickle.escape_ascii();
    assert_eq!(report.verdict, verdict, "{shown}: {:?}", report.findings);
    let has_rule = report.findings.iter().any(|finding| finding.rule == rule);
    assert!(has_rule, "{shown}: {:?}", report.findings);
    report
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn plain_data_is_safe() {
    let pickles: [&[u8]; 18] = [
        b"(lp0\n.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.",
        // An array in protocols 2, 4 and 5.
        b"\x80\x02cnumpy._core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02\
          c_codecs\nencode\nq\x03X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05\x86q\x06Rq\x07\
          \x87q\x08Rq\x09(K\x01K\x01\x85q\ncnumpy\ndtype\nq\x0bX\x02\x00\x00\x00f8q\x0c\x89\x88\x87\
          q\x0dRq\x0e(K\x03X\x01\x00\x00\x00<q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x10b\
          \x89h\x03X\x08\x00\x00\x00abcdefghq\x11h\x05\x86q\x12Rq\x13tq\x14b.",
        b"\x80\x04\x95\x99\x00\x00\x00\x00\x00\x00\x00\x8c\x16numpy._core.multiarray\x94\
          \x8c\x0c_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94\
          C\x01b\x94\x87\x94R\x94(K\x01K\x02\x85\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02f8\x94\
          \x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b\
          \x89C\x10abcdefghabcdefgh\x94t\x94b.",
        b"\x80\x05\x95\x84\x00\x00\x00\x00\x00\x00\x00\x8c\x13numpy._core.numeric\x94\
          \x8c\x0b_frombuffer\x94\x93\x94(\x96\x10\x00\x00\x00\x00\x00\x00\x00abcdefghabcdefgh\x94\
          \x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02f8\x94\x89\x88\x87\x94R\x94(K\x03\
          \x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bK\x02\x85\x94\x8c\x01C\x94\
          t\x94R\x94.",
        // Text and times as elements, then a number.
        b"\x80\x04cnumpy\ndtype\n\x8c\x02U2\x89\x88\x87R(K\x03\x8c\x01<NNNK\x08K\x04K\x08tb.",
        b"\x80\x04cnumpy\ndtype\n\x8c\x02M8\x89\x88\x87R(K\x04\x8c\x01<NNNJ\xff\xff\xff\xff\
          J\xff\xff\xff\xffK\x00N(C\x01DK\x01K\x01K\x01t\x86tb.",
        b"\x80\x04cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02f8\x89\x88\x87R\
          C\x08abcdefgh\x86R.",
        // Containers of protocols that have no opcode for them.
        b"ccollections\nOrderedDict\np0\n(tRp1\nVa\np2\nI1\ns.",
        b"\x80\x02c__builtin__\nset\nq\x00]q\x01(K\x01K\x02e\x85q\x02Rq\x03.",
        b"\x80\x03cbuiltins\nbytearray\nq\x00C\x02abq\x01\x85q\x02Rq\x03.",
        b"c__builtin__\ncomplex\nq\x00(G\x00\x00\x00\x00\x00\x00\x00\x00G?\xf0\x00\x00\x00\x00\x00\
          \x00tq\x01Rq\x02.",
        b"c__builtin__\nbytes\np0\n(tRp1\n.",
        // An array whose axes are in another order in memory.
        b"\x80\x05cnumpy._core.numeric\n_frombuffer\n(\x96\x0c\x00\x00\x00\x00\x00\x00\x00\
          abcdefabcdef\
          cnumpy\ndtype\n\x8c\x02i1\x89\x88\x87R(K\x03\x8c\x01|NNN\
          J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\
          K\x02K\x03K\x02\x87\x8c\x01KK\x01K\x00K\x02\x87tR.",
        // Attributes of an ordered dictionary, as those of a torch state.
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00a}sb.",
        // Milestones of a schedule of torch.
        b"\x80\x02ccollections\nCounter\nq\x00}q\x01(K\x02K\x01K\x04K\x01u\x85q\x02Rq\x03.",
        // Two pickles in a row.
        b"\x80\x02K\x01.\x80\x02K\x02.",
        b"\x80\x04\x8f(K\x01\x90(K\x02\x91\x86.",
    ];
    for pickle in pickles {
        let report = report(pickle);
        let shown = pickle.escape_ascii();
        assert_eq!(
            report.verdict,
            Verdict::Safe,
            "{shown}: {:?}",
            report.findings
        );
    }
}

/// numpy reads beyond a list that is shorter than the shape, and takes what is there for objects.
#[test]
fn arrays_of_objects_are_not_counted() {
    let array = b"\x80\x04\x95\x90\x00\x00\x00\x00\x00\x00\x00\x8c\x16numpy._core.multiarray\x94\
          \x8c\x0c_reconstruct\x94\x93\x94\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94\
          C\x01b\x94\x87\x94R\x94(K\x01K\x02\x85\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02O8\x94\
          \x89\x88\x87\x94R\x94(K\x03\x8c\x01|\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?t\x94b\x89\
          ]\x94(K\x01\x8c\x01a\x94et\x94b.";
    check(array, Verdict::Unknown, "pickle-build");
}

/// Two large tuples whose items are shared are compared as often as a pickle wants.
#[test]
fn memos_are_compared_in_bounded_time() {
    let mut tuples = b"(".to_vec();
    tuples.extend(b"K\x01".repeat(64));
    tuples.extend(b"t\x940");
    for below in 0..3 {
        tuples.push(b'(');
        tuples.extend([b'h', below].repeat(64));
        tuples.extend(b"t\x940");
    }
    let gets = b"h\x030".repeat(20_000);
    let two = join(&[&tuples, b"N.", &tuples, &gets, b"N."]);
    assert_eq!(report(&two).verdict, Verdict::Safe);
}

/// Functions that find other functions, or run code: each is refused because it is not allowed.
#[test]
fn what_is_not_allowed_is_code() {
    let names = [
        "pkgutil resolve_name",
        "importlib import_module",
        "operator methodcaller",
        "operator itemgetter",
        "inspect getattr_static",
        "runpy run_path",
        "ctypes CDLL",
        "pydoc locate",
        "builtins getattr",
        "__builtin__ eval",
        "profile run",
        "cProfile run",
        "timeit timeit",
        "distutils.spawn spawn",
        "pipes Template",
        "mailcap findmatch",
        "marshal loads",
        "_posixsubprocess fork_exec",
        "_winapi CreateProcess",
        "_ctypes CDLL",
        "uuid _get_command_stdout",
        "_osx_support _read_output",
        "_aix_support _read_cmd_output",
        "_pyrepl.pager pipe_pager",
        "imaplib IMAP4_stream",
        "torch.storage _load_from_bytes",
        "torch load",
        "torch._utils _rebuild_wrapper_subclass",
        "functools partial",
        "numpy load",
        "collections OrderedDict.fromkeys",
        "collections.OrderedDict fromkeys",
        "numpy.core.multiarray fromfile",
        "copyreg _reconstructor",
        "sklearn.tree._tree Tree",
    ];
    for text in names {
        let (module, name) = text.split_once(' ').unwrap();
        let lines = format!("{module}\n{name}\n");
        let lengths = [module, name].map(|text| u8::try_from(text.len()).unwrap());
        let pickles = [
            join(&[b"c", lines.as_bytes(), b"."]),
            join(&[b"(i", lines.as_bytes(), b"."]),
            join(&[
                &[0x8c, lengths[0]],
                module.as_bytes(),
                &[0x8c, lengths[1]],
                name.as_bytes(),
                b"\x93.",
            ]),
        ];
        for pickle in pickles {
            let report = check(&pickle, Verdict::Executable, "pickle-global");
            let detail = &report.findings[0].detail;
            assert!(detail.contains(&format!("{module}.{name}")), "{detail}");
        }
    }
    let report = check(
        b"K\x010cos\nsystem\n.",
        Verdict::Executable,
        "pickle-global",
    );
    assert_eq!(report.findings[0].offset, 3);
    let long = join(&[b"c", &[b'a'; 201], b"\nb\n."]);
    check(&long, Verdict::Executable, "pickle-global");
}

#[test]
fn registry_codes_are_imports() {
    for pickle in [
        &b"\x82\x01."[..],
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
    ] {
        check(pickle, Verdict::Executable, "pickle-extension");
    }
}

#[test]
fn a_memo_is_read_as_the_unpickler_reads_it() {
    let system = |pickle: &[u8]| {
        let report = check(pickle, Verdict::Executable, "pickle-global");
        assert!(report.findings[0].detail.contains("os.system"));
    };
    // The second PUT replaces the first.
    system(b"\x8c\x0bcollectionsq\x000\x8c\x02osq\x000h\x00\x8c\x06system\x93.");
    // MEMOIZE uses the number of values, which PUT has used already.
    system(b"\x8c\x0bcollectionsq\x010\x8c\x02os\x940h\x01\x8c\x06system\x93.");
    // An unpickler that keeps its memo reads the names of the first pickle in the second.
    let two = b"\x8c\x02os\x940\x8c\x06system\x94.\x8c\x0bcollections\x940\
        \x8c\x0bOrderedDict\x940h\x00h\x01\x93.";
    check(two, Verdict::Executable, "pickle-global");
    // Names that are no texts of the file.
    check(b"K\x01\x8c\x01a\x93.", Verdict::Executable, "pickle-global");
    check(b"\x8c\x01a]\x93.", Verdict::Executable, "pickle-global");
    check(
        b"V\\u006fs\nVsystem\n\x93.",
        Verdict::Executable,
        "pickle-global",
    );
}

#[test]
fn a_high_number_of_the_memo_is_reported_and_followed() {
    let put = |number: u32| join(&[b"]r", &number.to_le_bytes(), b"."]);
    assert_eq!(report(&put(1 << 24)).verdict, Verdict::Safe);
    check(&put((1 << 24) + 1), Verdict::Unknown, "pickle-memo");
    let followed = join(&[b"]r\xff\xff\xff\xff0cos\nsystem\n."]);
    check(&followed, Verdict::Executable, "pickle-global");
}

#[test]
fn what_runs_before_a_break_counts() {
    for end in [&b"\xff"[..], b"", b"R", b"h\x09", b"X\xff\xff\xff\x7f"] {
        let pickle = join(&[b"cos\nsystem\n(S'id'\ntR", end]);
        let report = check(&pickle, Verdict::Executable, "pickle-malformed");
        assert_eq!(report.findings[0].rule, "pickle-global");
    }
}

#[test]
fn every_pickle_of_a_stream_is_followed() {
    check(b"N.cos\nsystem\n.", Verdict::Executable, "pickle-global");
    check(b"N.PK\x03\x04", Verdict::Malformed, "pickle-trailing");
    check(b"N.\x00", Verdict::Malformed, "pickle-trailing");
}

#[test]
fn frames_must_fit() {
    let cases: [&[u8]; 5] = [
        // Beyond the end, and beyond any end.
        b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00N.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
        // The end within an operation.
        b"\x80\x04\x95\x01\x00\x00\x00\x00\x00\x00\x00K\x01.",
        // A frame in a frame.
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x95\x02\x00\x00\x00\x00\x00\x00\x00N.",
        // A frame that goes on after STOP.
        b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00N.N.",
    ];
    for pickle in cases {
        check(pickle, Verdict::Malformed, "pickle-frame");
    }
    let hidden = b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n.";
    check(hidden, Verdict::Executable, "pickle-global");
}

#[test]
fn pickles_in_pickles_are_found() {
    let inner = b"\x80\x02cos\nsystem\n.";
    let outer = join(&[b"\x80\x04C\x0e", inner, b"."]);
    let report = check(&outer, Verdict::Executable, "pickle-global");
    assert_eq!(report.findings[0].offset, 6);
    // The same through latin1, as protocol 2 writes bytes.
    let text = join(&[b"c_codecs\nencode\nX\x0f\x00\x00\x00\xc2", inner]);
    let text = join(&[&text, b"\x8c\x06latin1\x86R."]);
    check(&text, Verdict::Executable, "pickle-global");
    check(b"C\x05\x80\x02zz..", Verdict::Unknown, "pickle-nested");
    check(b"S'\\x80\\x02cos'\n.", Verdict::Unknown, "pickle-nested");
    check(b"C\x04PK\x03\x04.", Verdict::Unknown, "pickle-nested");
    assert_eq!(report_verdict(b"C\x05\x80\x02K\x01.."), Verdict::Safe);
    // Data that only begins like a pickle.
    assert_eq!(report_verdict(b"C\x04\x80\x02ab."), Verdict::Safe);
    // Too deep.
    let mut pickle = b"\x80\x04N.".to_vec();
    for _ in 0..6 {
        let length = u8::try_from(pickle.len()).unwrap();
        pickle = join(&[b"\x80\x04C", &[length], &pickle, b"."]);
    }
    check(&pickle, Verdict::Unknown, "pickle-nested");
}

fn report_verdict(pickle: &[u8]) -> Verdict {
    report(pickle).verdict
}

#[test]
fn buffers_outside_the_file_are_unknown() {
    check(b"\x80\x05\x97\x98.", Verdict::Unknown, "pickle-buffer");
}

#[test]
fn only_torch_has_persistent_identifiers() {
    check(b"Pabc\n.", Verdict::Unknown, "pickle-persistent-id");
    check(b"\x8c\x01aQ.", Verdict::Unknown, "pickle-persistent-id");
    let limits = Limits::default();
    let (report, storages) = scan_torch(&mut Cursor::new(TENSOR), &limits, false).unwrap();
    assert_eq!(report.verdict, Verdict::Safe, "{:?}", report.findings);
    let storage = &storages["0"];
    assert_eq!((storage.element_bytes, storage.elements), (4, 2));
    // Legacy torch would read the source file that a module names.
    let module = b"\x80\x02(\x8c\x06moduleNN\x8c\x01atQ.";
    let (report, _) = scan_torch(&mut Cursor::new(module), &limits, false).unwrap();
    assert_eq!(report.verdict, Verdict::Executable);
    // One storage with two sizes.
    let two = join(&[b"\x80\x02", &TENSOR[2..TENSOR.len() - 1], b"0"]);
    let mut other = TENSOR[2..].to_vec();
    let at = other.windows(4).position(|part| part == b"cpuK").unwrap() + 4;
    other[at] = 9;
    let two = join(&[&two, &other]);
    let (report, _) = scan_torch(&mut Cursor::new(two), &limits, false).unwrap();
    assert_eq!(report.verdict, Verdict::Malformed, "{:?}", report.findings);
}

#[test]
fn tensors_of_old_releases_of_torch_are_data() {
    let begin = b"\x80\x02ctorch._utils\n_rebuild_tensor\n((\x8c\x07storage\
        ctorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x02NtQK\x00K\x02\x85";
    let verdict = |end: &[u8]| {
        let pickle = join(&[begin, end]);
        let (report, _) = scan_torch(&mut Cursor::new(pickle), &Limits::default(), false).unwrap();
        report.verdict
    };
    assert_eq!(verdict(b"K\x01\x85tR."), Verdict::Safe);
    // Strides that are no numbers.
    assert_eq!(verdict(b"]tR."), Verdict::Executable);
}

#[test]
fn a_state_cannot_change_what_memory_means() {
    // Objects whose flags say that they are no objects: bytes of the file would become pointers.
    let forged = join(&[OBJECT_DTYPE, b"K\x00tb."]);
    check(&forged, Verdict::Executable, "pickle-build");
    let right = join(&[OBJECT_DTYPE, b"K?tb."]);
    assert_eq!(report(&right).verdict, Verdict::Safe);
    // Bytes as elements of an array of objects.
    let array = join(&[
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R",
        b"(K\x01K\x01\x85",
        OBJECT_DTYPE,
        b"K?tb\x89C\x08abcdefghtb.",
    ]);
    check(&array, Verdict::Executable, "pickle-build");
    // A longer text than the code has.
    let long = b"cnumpy\ndtype\n\x8c\x02S5\x89\x88\x87R(K\x03\x8c\x01|NNNK\x09K\x01K\x00tb.";
    check(long, Verdict::Executable, "pickle-build");
    // Fields at offsets that are not checked.
    let fields = b"cnumpy\ndtype\n\x8c\x02V8\x89\x88\x87R(K\x03\x8c\x01|N\x8c\x01a\x85}\
        K\x08K\x01K\x10tb.";
    check(fields, Verdict::Unknown, "pickle-build");
    // Attributes of a class, and of an object that could call one.
    check(
        b"ccollections\nOrderedDict\n}b.",
        Verdict::Executable,
        "pickle-build",
    );
    let method = b"ccollections\nOrderedDict\n)R}\x8c\x0c__setstate__cnumpy\ndtype\nsb.";
    check(method, Verdict::Executable, "pickle-items");
}

#[test]
fn allowed_names_are_called_with_plain_data_only() {
    let calls: [&[u8]; 13] = [
        b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
        b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n\x8c\x02O8\
          \x89\x88\x87R)\x8c\x01CtR.",
        b"c_codecs\nencode\n\x8c\x01a\x8c\x03zip\x86R.",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x09\x85C\x01b\x87R.",
        b"cnumpy\ndtype\n\x8c\x02f8\x89\x89\x87R.",
        b"cnumpy\ndtype\n\x8c\x05f8,f8\x89\x88\x87R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02O8\x89\x88\x87RC\x01a\x86R.",
        b"ctorch\nFloatStorage\nK\x09\x85R.",
        b"ccollections\nOrderedDict\nK\x01\x85\x81.",
        b"ccollections\nOrderedDict\n)}\x92.",
        b"ccollections\nCounter\n]\x85R.",
        b"(cbuiltins\nset\nK\x01o.",
    ];
    for pickle in calls {
        check(pickle, Verdict::Executable, "pickle-call");
    }
    check(
        b"cbuiltins\nslice\nK\x01a.",
        Verdict::Executable,
        "pickle-items",
    );
    check(b"K\x01K\x02K\x03s.", Verdict::Executable, "pickle-items");
    check(b"](K\x01\x90.", Verdict::Executable, "pickle-items");
}

#[test]
fn broken_pickles_are_malformed() {
    let pickles: [&[u8]; 14] = [
        b"",
        b"N",
        b".",
        b"(.",
        b"0.",
        b"a.",
        b"t.",
        b"h\x00.",
        b"S'a\n.",
        b"}(K\x01u.",
        b"(K\x01(0a.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xff.",
    ];
    for pickle in pickles {
        check(pickle, Verdict::Malformed, "pickle-malformed");
    }
    let pickles: [&[u8]; 5] = [
        b"g00\n.",
        b"I010\n.",
        b"I1_0\n.",
        b"F1_0\n.",
        b"Np0\n.g0\n.",
    ];
    for pickle in pickles {
        check(pickle, Verdict::Malformed, "pickle-ambiguous");
    }
    check(b"NN.", Verdict::Malformed, "pickle-stack");
    check(b"\x80\x06N.", Verdict::Malformed, "pickle-protocol");
}

#[test]
fn work_is_bounded() {
    // A key whose hash goes too deep, or visits a shared tuple too often.
    let nested = |depth: usize| join(&[b"\x80\x02})", &b"\x85".repeat(depth), b"Ns."]);
    assert_eq!(report_verdict(&nested(999)), Verdict::Safe);
    check(&nested(1_000), Verdict::Unknown, "pickle-limit");
    let mut shared = b"\x80\x04})\x94".to_vec();
    for below in 0..13 {
        shared.extend(b"0(");
        shared.extend([b'h', below].repeat(4));
        shared.extend(b"t\x94");
    }
    check(&shared, Verdict::Unknown, "pickle-limit");
    check(&[b'N'; 300_001], Verdict::Unknown, "pickle-limit");
    check(&[b'('; 300_001], Verdict::Unknown, "pickle-limit");
    let mut memo = vec![b'N'];
    memo.resize(450_002, 0x94);
    check(&memo, Verdict::Unknown, "pickle-limit");
    let limits = Limits {
        operations: 3,
        ..Limits::default()
    };
    let few = scan(&mut Cursor::new(b"NNN."), &limits).unwrap();
    assert_eq!(few.verdict, Verdict::Unknown);
    // Names that are no longer kept do not become known ones.
    let mut names = Vec::new();
    for number in 0..120_000_u32 {
        names.extend_from_slice(b"\x8c\x08");
        names.extend_from_slice(format!("{number:08}").as_bytes());
        names.extend_from_slice(b"\x940");
    }
    names.extend_from_slice(b"\x8c\x0bcollections\x8c\x0bOrderedDict\x93.");
    check(&names, Verdict::Executable, "pickle-global");
}

#[test]
fn legacy_torch_files_end_with_their_storages() {
    let legacy = |parts: &[&[u8]]| {
        let file = join(&[PREFIX.as_slice(), b"\x80\x02}.", TENSOR, &parts.concat()]);
        legacy_torch(&mut Cursor::new(file), &Limits::default()).unwrap()
    };
    let keys = b"\x80\x02]\x8c\x010a.";
    let size = &2_u64.to_le_bytes();
    let report = legacy(&[keys, size, b"abcdefgh"]);
    assert_eq!(report.verdict, Verdict::Safe, "{:?}", report.findings);
    let wrong: [&[&[u8]]; 6] = [
        &[keys, size, b"abcdefg"],
        &[keys, size, b"abcdefghi"],
        &[keys, &3_u64.to_le_bytes(), b"abcdefgh"],
        &[b"\x80\x02].", size, b"abcdefgh"],
        &[b"\x80\x02](\x8c\x010\x8c\x010e.", size, b"abcdefgh"],
        &[keys, size, b"abcdefgh", b"N."],
    ];
    for parts in wrong {
        assert_eq!(legacy(parts).verdict, Verdict::Malformed, "{parts:?}");
    }
    // A pickle after the data, where the keys are expected, is followed, too.
    let report = legacy(&[b"cos\nsystem\n."]);
    assert_eq!(report.verdict, Verdict::Executable);
    let other = legacy_torch(&mut Cursor::new(b"N."), &Limits::default()).unwrap();
    assert_eq!(other.verdict, Verdict::Malformed);
}
