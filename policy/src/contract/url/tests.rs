//! Allowed URLs, and the spellings that attackers use for blocked ones.

use alloc::string::String;
use alloc::vec;

use super::UrlRule;

fn rule() -> UrlRule {
    UrlRule {
        schemes: vec!["https".into()],
        hosts: vec![
            "images.example.com".into(),
            "*.cdn.example.com".into(),
            "xn--bcher-kva.example".into(),
        ],
        ports: vec![443, 8443],
    }
}

#[test]
fn listed_urls_are_allowed() {
    for url in [
        "https://images.example.com",
        "https://images.example.com/",
        "https://images.example.com/a/../b.png?x=1&y=[2]#f",
        "https://images.example.com:443/a%20b",
        "https://images.example.com:8443/?x",
        "HTTPS://Images.Example.COM/a",
        "https://a.cdn.example.com/",
        "https://a.b-2.cdn.example.com/@",
        "https://xn--bcher-kva.example/",
    ] {
        assert_eq!(rule().check(url.as_bytes()), Ok(()), "{url}");
    }
}

#[test]
fn unlisted_urls_are_blocked_in_every_spelling() {
    for url in [
        "",
        "images.example.com",
        "//images.example.com",
        "https:images.example.com",
        "https:/images.example.com",
        "https:///images.example.com",
        "http://images.example.com/",
        "file:///etc/passwd",
        "gopher://images.example.com/",
        "data:image/png;base64,AAAA",
        "javascript://images.example.com/%0a",
        " https://images.example.com/",
        "https://images.example.com/ ",
        "https://images.example.com/\n",
        "https://images.example.com\t/",
        "ht\ntps://images.example.com/",
        "https://images.example.com\\@127.0.0.1/",
        "https:\\\\images.example.com/",
        "https://user@images.example.com/",
        "https://images.example.com#@127.0.0.1/",
        "https://images.example.com?@127.0.0.1/",
        "https://images.example.com:443#@127.0.0.1/",
        "https://images.example.com?x",
        "https://images.example.com#",
        "https://images.example.com@127.0.0.1/",
        "https://images.example.com:443@127.0.0.1/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1.nip.io/",
        "https://localhost/",
        "https://images.example.com./",
        "https://.images.example.com/",
        "https://images..example.com/",
        "https://imagesXexample.com/",
        "https://images.example.com.evil.com/",
        "https://evilimages.example.com/",
        "https://cdn.example.com/",
        "https://.cdn.example.com/",
        "https://evilcdn.example.com/",
        "https://a.cdn.example.com.evil.com/",
        "https://xn--80ak6aa92e.cdn.example.com/",
        "https://a.XN--80ak6aa92e.cdn.example.com/",
        "https://-a.cdn.example.com/",
        "https://a_b.cdn.example.com/",
        "https://%69mages.example.com/",
        "https://images%2eexample.com/",
        "https://images.example.com%00.evil.com/",
        "https://images.example.com:/",
        "https://images.example.com:80/",
        "https://images.example.com:0443/",
        "https://images.example.com:+443/",
        "https://images.example.com:443443/",
        "https://images.example.com:65979/",
        "https://images.example.com:443:443/",
        "https://images.example.com/%0d%0aHost:%20x",
        "https://images.example.com/%00",
        "https://images.example.com/%7F",
        "https://images.example.com/%",
        "https://images.example.com/%2",
        "https://images.example.com/%zz",
        "https://b\u{fc}cher.example/",
        "https://images\u{3002}example.com/",
        "https://\u{24d8}mages.example.com/",
        "https://images.example.com\u{200b}/",
    ] {
        assert!(rule().check(url.as_bytes()).is_err(), "{url:?}");
    }
    let mut long = String::from("https://images.example.com/");
    long.push_str(&"a".repeat(2048 - long.len()));
    assert_eq!(rule().check(long.as_bytes()), Ok(()));
    long.push('a');
    assert!(rule().check(long.as_bytes()).is_err());
    assert!(rule().check(b"https://images.example.com/\xff").is_err());
}

#[test]
fn every_scheme_has_its_own_port_and_buckets_have_none() {
    let rule = UrlRule {
        schemes: vec!["https".into(), "http".into(), "s3".into()],
        hosts: vec!["bucket".into(), "a.example.com".into()],
        ports: vec![443],
    };
    for (url, good) in [
        ("https://a.example.com/", true),
        ("http://a.example.com/", false),
        ("http://a.example.com:443/", true),
        ("s3://bucket/key", true),
        ("s3://bucket:443/key", false),
        ("gs://bucket/key", false),
    ] {
        assert_eq!(rule.check(url.as_bytes()).is_ok(), good, "{url}");
    }
}
