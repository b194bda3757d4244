//! The host is killed while it works.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_host_killed_under_load_has_an_audit_line() {
    let stack = Arc::new(Stack::start("audit-crash", policy::vectors_policy("main.json")).await);
    let gate = stack.gate;
    let command = stack.host_command();
    let stop = Arc::new(AtomicBool::new(false));
    let turned_away = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, turned_away) = (Arc::clone(&stop), Arc::clone(&turned_away));
            tokio::spawn(async move {
                let (mut answered, mut refused, mut cut_off) = (Vec::new(), Vec::new(), 0_u64);
                while !stop.load(Ordering::Relaxed) {
                    let Ok(reply) = ask::good(gate, &[]).await else {
                        cut_off += 1;
                        continue;
                    };
                    let id = reply.header("x-request-id").unwrap_or_default();
                    if reply.status == 200 {
                        answered.push(id);
                    } else {
                        refused.push(id);
                        turned_away.fetch_add(1, Ordering::Relaxed);
                    }
                }
                (answered, refused, cut_off)
            })
        })
        .collect();
    let decided = || stack.audit_lines_of("decision").len();
    met("requests are answered", || decided() >= BEFORE_AND_AFTER).await;
    stack.kill_host().await;
    let at_the_crash = decided();
    met("requests are refused while there is no host", || {
        turned_away.load(Ordering::Relaxed) >= BEFORE_AND_AFTER
    })
    .await;
    let mut again = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    met("requests are answered again", || {
        decided() >= at_the_crash + BEFORE_AND_AFTER
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let (mut answered, mut refused, mut cut_off) = (Vec::new(), Vec::new(), 0);
    for client in clients {
        let (more, less, none) = client.await.unwrap();
        answered.extend(more);
        refused.extend(less);
        cut_off += none;
    }
    let known = || -> BTreeMap<String, usize> {
        let mut known = BTreeMap::new();
        for line in stack.audit_lines_of("decision") {
            if let Some(id) = line["request_id"].as_str() {
                *known.entry(id.to_owned()).or_default() += 1;
            }
        }
        known
    };
    let last = answered.last().unwrap().clone();
    met("the last one has its line", || known().contains_key(&last)).await;
    let known = known();
    let without: Vec<_> = answered
        .iter()
        .filter(|id| known.get(*id) != Some(&1))
        .collect();
    assert!(
        without.is_empty(),
        "answered, and not on one line each: {without:?}"
    );
    // While there was no host, no lines of Envoy could be delivered. The missing ones are counted
    // once each worker has another line to send.
    let missing = || {
        let told: BTreeSet<String> = (stack.audit_lines_of("decision").iter())
            .filter(|line| line["status"] != 200)
            .chain(&stack.audit_lines_of("amend"))
            // Envoy's own replies have the id that it has created.
            .flat_map(|line| [&line["request_id"], &line["client_request_id"]])
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect();
        refused.iter().filter(|id| !told.contains(*id)).count() as u64
    };
    let lost = || -> u64 {
        let counts = stack.audit_lines_of("lost");
        counts
            .iter()
            .filter_map(|line| line["count"].as_u64())
            .sum()
    };
    let counted = async {
        while lost() < missing() {
            let unknown = [("x-api-key", "tg_unknown")];
            http1::send(
                gate,
                "GET",
                "/v2/models/vec",
                &unknown,
                b"",
                Framing::Length,
            )
            .await
            .unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, counted)
        .await
        .expect("what Envoy lost is not counted");
    let (lost, missing) = (lost(), missing());
    assert!(
        (missing..=missing + cut_off).contains(&lost),
        "{lost} told as lost, {missing} missing, {cut_off} cut off"
    );
    eprintln!(
        "{} answered, {} refused while the host was down, of which {missing} have no line and {lost} are told as lost",
        answered.len(),
        refused.len()
    );
    let (code, said) = verified(&stack).await;
    assert_eq!(code, Some(0), "{said}");
    again.kill().await.unwrap();
}
