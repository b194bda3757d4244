//! Orders, paths and shards of a manifest.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use super::*;

fn rules(pieces: Pieces) -> Rules {
    Rules {
        pieces,
        follow_links: false,
        exclusions: Exclusions::new(["cache".to_owned()]).unwrap(),
    }
}

fn shards(bytes: u64) -> Rules {
    rules(Pieces::Shards(NonZeroU64::new(bytes).unwrap()))
}

fn file(path: &str) -> Resource {
    Resource::file(path.to_owned(), Sha256::digest(path).into())
}

fn shard(path: &str, start: u64, end: u64) -> Resource {
    Resource::shard(path.to_owned(), start..end, [7; 32])
}

fn listed(rules: Rules, resources: Vec<Resource>) -> Result<Manifest, ManifestFault> {
    let root = root_digest(&resources);
    Manifest::from_listed("model".to_owned(), rules, resources, &root)
}

#[test]
fn resources_are_in_one_of_two_orders() {
    // `-` and `.` are before `/`, so both orders differ where a file's name begins as a folder's.
    let by_name = [file("a"), file("b-c"), file("b/d")];
    let by_component = [file("a"), file("b/d"), file("b-c")];
    for order in [by_name.to_vec(), by_component.to_vec()] {
        let manifest = listed(rules(Pieces::Files), order).unwrap();
        assert_eq!(manifest.by_name(), by_name);
    }
    for wrong in [
        vec![file("b"), file("a")],
        vec![file("a"), file("a")],
        vec![file("b-c"), file("a"), file("b/d")],
        vec![file("a"), file("b/d"), file("b-c"), file("aa")],
    ] {
        let fault = listed(rules(Pieces::Files), wrong).unwrap_err();
        assert_eq!(fault, ManifestFault::Order);
    }
}

#[test]
fn shards_are_ordered_by_name_or_by_number() {
    let numbers: Vec<Resource> = (0..11).map(|n| shard("w", n, n + 1)).collect();
    let mut names = numbers.clone();
    names.sort_by_key(Resource::name);
    assert_ne!(numbers, names);
    for order in [numbers.clone(), names] {
        let manifest = listed(shards(1), order).unwrap();
        assert_eq!(manifest.resources(), numbers);
        assert_eq!(manifest.sharded_bytes("w"), Some(11));
    }
}

#[test]
fn the_root_digest_is_over_the_digests_in_order() {
    let resources = vec![file("a"), file("b")];
    let fault = Manifest::from_listed(
        "model".to_owned(),
        rules(Pieces::Files),
        resources.clone(),
        &[0; 32],
    );
    assert!(matches!(fault, Err(ManifestFault::Root { .. })));
    let digests = resources.iter().map(|resource| resource.sha256);
    let all = digests.collect::<Vec<_>>().concat();
    let expected: [u8; 32] = Sha256::digest(all).into();
    assert_eq!(root_digest(&resources), expected);
}

#[test]
fn an_empty_model_and_a_path_that_leads_out_are_rejected() {
    let fault = listed(rules(Pieces::Files), vec![]).unwrap_err();
    assert_eq!(fault, ManifestFault::Empty);
    for (path, fault) in [
        ("../secret.txt", PathFault::Parent),
        ("/etc/passwd", PathFault::Absolute),
        ("a//b", PathFault::Form),
    ] {
        let rejected = listed(rules(Pieces::Files), vec![file(path)]).unwrap_err();
        assert_eq!(rejected, ManifestFault::Path(path.to_owned(), fault));
    }
    let many = (0..=MAX_RESOURCES).map(|n| file(&n.to_string())).collect();
    let fault = Manifest::new("model".to_owned(), rules(Pieces::Files), many).unwrap_err();
    assert_eq!(fault, ManifestFault::TooMany);
}

#[test]
fn a_single_file_is_listed_by_name_or_as_a_dot() {
    let dot = listed(rules(Pieces::Files), vec![file(".")]).unwrap();
    assert_eq!(dot.single_file_path("model.bin"), ".");
    let named = listed(rules(Pieces::Files), vec![file("model.bin")]).unwrap();
    assert_eq!(named.single_file_path("model.bin"), "model.bin");
    assert!(listed(rules(Pieces::Files), vec![file("."), file("a")]).is_err());
    listed(shards(4), vec![shard(".", 0, 4), shard(".", 4, 6)]).unwrap();
}

#[test]
fn shards_cover_their_file() {
    listed(shards(4), vec![shard("w", 0, 4), shard("w", 4, 8)]).unwrap();
    listed(shards(4), vec![shard("w", 0, 3)]).unwrap();
    for wrong in [
        vec![shard("w", 0, 5)],
        vec![shard("w", 0, 0)],
        vec![shard("w", 4, 8)],
        vec![shard("w", 0, 3), shard("w", 3, 7)],
        vec![shard("w", 0, 4), shard("w", 5, 8)],
        vec![shard("w", 0, 4), shard("w", 4, 3)],
        vec![shard("w", 0, u64::MAX)],
        vec![file("w")],
    ] {
        let fault = listed(shards(4), wrong).unwrap_err();
        assert_eq!(fault, ManifestFault::Shards("w".to_owned()));
    }
    let fault = listed(rules(Pieces::Files), vec![shard("w", 0, 4)]).unwrap_err();
    assert_eq!(fault, ManifestFault::Shards("w".to_owned()));
}

#[test]
fn a_shards_name_has_its_range_at_its_end() {
    let pieces = shards(4).pieces;
    let read = |name: &str| Resource::from_name(name, pieces, [7; 32]);
    assert_eq!(read("a:b:0:4"), Ok(shard("a:b", 0, 4)));
    assert_eq!(read("a:b:0:4").unwrap().name(), "a:b:0:4");
    for name in [
        "a",
        "a:0",
        "a:0:",
        "a::4",
        "a:00:4",
        "a:+0:4",
        "a:0:99999999999999999999",
    ] {
        assert_eq!(read(name), Err(ManifestFault::ShardName(name.to_owned())));
    }
}

#[test]
fn ranges_end_with_the_file() {
    let ranges = |bytes| shard_ranges(NonZeroU64::new(4).unwrap(), bytes).collect::<Vec<_>>();
    assert!(ranges(0).is_empty());
    assert_eq!(ranges(4).len(), 1);
    assert_eq!(ranges(9), [0..4, 4..8, 8..9]);
}

#[test]
fn a_signed_file_is_never_excluded() {
    let resources = vec![file(".gitattributes"), file("a"), file("cache/kept")];
    let manifest = Manifest::new("model".to_owned(), rules(Pieces::Files), resources).unwrap();
    for (path, class) in [
        ("a", FileClass::Signed),
        (".gitattributes", FileClass::Signed),
        ("cache/kept", FileClass::Signed),
        ("cache/other", FileClass::Excluded),
        (".git/config", FileClass::Excluded),
        ("b", FileClass::Unsigned),
        ("sub/.git", FileClass::Unsigned),
    ] {
        assert_eq!(manifest.classify(path), class, "{path}");
    }
    assert!(manifest.skips_folder(".git"));
    assert!(!manifest.skips_folder("cache"));
    assert!(!manifest.skips_folder("sub"));
}

#[test]
fn names_that_some_systems_take_for_one_are_rejected() {
    for [first, second] in [["Model.bin", "model.bin"], ["A/x", "a/y"]] {
        let fault = listed(rules(Pieces::Files), vec![file(first), file(second)]).unwrap_err();
        assert_eq!(fault, ManifestFault::Alike(second.to_owned()));
        let resources = vec![file(second), file(first)];
        let fault = Manifest::new("model".to_owned(), rules(Pieces::Files), resources);
        assert!(fault.unwrap_err().to_string().contains("rename it"));
    }
    listed(shards(4), vec![shard("a", 0, 4), shard("a", 4, 6)]).unwrap();
}
