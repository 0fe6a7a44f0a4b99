//! What an answer to "does a pod have this address?" means.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use actors::action::{Action, Planned};
use actors::clock::Clock;
use actors::effects::executor::{Executor, Found, Leadership};
use actors::effects::kubernetes::{Answered, Call, Failure, Kubernetes};
use actors::object::{Key, Kind};
use actors::room::ActorId;
use actors::supervisor::Inflow;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// An API server that answers everything with the same.
struct Server {
    answer: Answered,
    asked: Mutex<Vec<String>>,
}

impl Kubernetes for Server {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        self.asked.lock().unwrap().push(call.path);
        let answer = self.answer.clone();
        Box::pin(async { answer })
    }
}

#[tokio::test]
async fn an_address_is_nobodys_only_when_the_server_lists_no_pod() {
    let refused = Failure::Refused {
        code: 404,
        reason: String::new(),
        message: "a proxy in between".to_owned(),
    };
    for (answer, gone) in [
        (Ok(br#"{"items": []}"#.to_vec()), Some(true)),
        (
            Ok(br#"{"items": [{"metadata": {}}]}"#.to_vec()),
            Some(false),
        ),
        (Ok(b"{}".to_vec()), None),
        (Err(refused), None),
        (Err(Failure::Lost("no answer".to_owned())), None),
    ] {
        let server = Arc::new(Server {
            answer,
            asked: Mutex::default(),
        });
        let (sender, mut inflow) = mpsc::channel(1);
        let (_leadership, standby) = watch::channel(Leadership::Standby);
        let io = Handle::current();
        let clock = Clock::system();
        let mut executor = Executor::new(server.clone(), io, sender, standby, clock, "test");
        let action = Action::Seek {
            key: Key::new(Kind::Pod, "db", "fd00::7"),
            address: "fd00::7".parse().unwrap(),
        };
        let planned = Planned {
            action,
            reason: "test".to_owned(),
        };
        let actor = ActorId::topology("u");
        executor.submit(&actor, ("db".into(), "demo".into()), planned);
        let Some(Inflow::Answer(answer)) = inflow.recv().await else {
            panic!("no answer");
        };
        let found = match answer.result {
            Ok(Found::Gone) => Some(true),
            Ok(_) => Some(false),
            Err(_) => None,
        };
        assert_eq!(found, gone);
        let asked = server.asked.lock().unwrap().clone();
        let path = "/api/v1/namespaces/db/pods?fieldSelector=status.podIP%3Dfd00::7&limit=1";
        assert_eq!(asked, [path]);
    }
}
