//! How a whole gate starts, becomes ready and stops.

mod readiness;

use tensorgate_tests::{Stack, ask, policy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_stopped_leaves_nothing_behind() {
    let stack = Stack::start("forged-stop", policy::vectors_policy("main.json")).await;
    let (gate, socket) = (stack.gate, stack.host_socket());
    assert_eq!(ask::good(gate, &[]).await.unwrap().status, 200);
    assert_eq!(stack.processes().len(), 2, "Envoy and the host run");
    let mark = stack.mark();
    assert!(stack.stop().await.success());
    assert!(tensorgate_tests::stack::processes_of(&mark).is_empty());
    assert!(tokio::net::TcpStream::connect(gate).await.is_err());
    assert!(!socket.exists());
}
