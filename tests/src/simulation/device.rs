//! A device of a person: the SDK as it is, on a machine whose clock jumps, with a disk that outlives it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tertulia_client::store::Store as _;
use tertulia_client::{Change, Client, Connection, Options, State};
use tertulia_services::chats::Standing;
use tertulia_services::ids::UserId;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::clock::DeviceMachine;
use super::disk::Disk;
use super::model::Model;
use super::operation::Operation;
use super::pace::Pace;
use super::screen::Screen;
use super::store::Store;
use super::view::face;
use super::wire::{Doors, Way};
use super::world::World;
use crate::checker::Outcome;
use crate::view::{View, shown_line, unlike};

/// How many events are read at once when somebody scrolls back.
const PAGE: u32 = 100;

/// It.
pub struct Device {
    /// Time and chance.
    pub world: Arc<World>,
    /// Such as `a1`: the first device of the first person.
    pub name: String,
    /// Whose it is; known once the person has signed up.
    pub user: UserId,
    /// Everybody who can be talked to.
    pub people: Arc<Mutex<Vec<UserId>>>,
    /// The way to the server.
    pub way: Arc<Way>,
    machine: Arc<DeviceMachine>,
    model: Arc<Model>,
    store: Arc<Store>,
    disk: Arc<Disk>,
    prompt: Arc<AtomicBool>,
    pace: Arc<Pace>,
    /// Guards what runs on it now.
    running: Mutex<Option<Running>>,
}

struct Running {
    client: Client,
    tasks: Vec<JoinHandle<()>>,
}

/// What a device is made in.
pub struct Surroundings {
    /// Time and chance.
    pub world: Arc<World>,
    /// What must be true.
    pub model: Arc<Model>,
    /// For the epoch.
    pub store: Arc<Store>,
    /// The server.
    pub doors: Arc<Doors>,
    /// Everybody.
    pub people: Arc<Mutex<Vec<UserId>>>,
    /// Whether delays are judged.
    pub prompt: Arc<AtomicBool>,
    /// How fast people are.
    pub pace: Arc<Pace>,
}

fn account(person: usize) -> (String, String) {
    let name = format!("person{person}");
    let password = format!("{person}:uV9#kQ2x");
    (name, password)
}

impl Device {
    /// A device of a person, signed in; the first one makes the account.
    pub async fn new(around: &Surroundings, person: usize, number: usize) -> Arc<Device> {
        let letter = char::from(b'a' + person as u8);
        let name = format!("{letter}{}", number + 1);
        let world = &around.world;
        let mut device = Device {
            way: Way::new(world, &name, &around.doors),
            machine: DeviceMachine::new(world.fork()),
            disk: Disk::new(world, &around.model),
            world: Arc::clone(world),
            name,
            user: UserId(0),
            people: Arc::clone(&around.people),
            model: Arc::clone(&around.model),
            store: Arc::clone(&around.store),
            prompt: Arc::clone(&around.prompt),
            pace: Arc::clone(&around.pace),
            running: Mutex::new(None),
        };
        let (client, _) = device.build();
        let (name, password) = account(person);
        let user = match number {
            0 => client.sign_up(&name, &password, &name).await,
            _ => client.sign_in(&name, &password).await,
        };
        device.user = UserId(user.expect("nothing goes wrong yet"));
        Arc::new(device)
    }

    fn build(&self) -> (Client, Arc<Screen>) {
        let plan = &self.world.plan;
        let screen = Screen::new(
            &self.world,
            &self.model,
            &self.store,
            (&self.name, self.user),
            &self.prompt,
        );
        let disk = self.disk.mount();
        screen.begin(&disk.load().expect("a simulated disk can always be read"));
        let seen = Arc::clone(&screen);
        let options = Options {
            backoff_max: plan.backoff_max,
            fresh_events: plan.fresh_events,
            hole_events_max: plan.hole_events_max,
            ..Options::default()
        };
        let client = Client::builder("http://server")
            .transport(self.way.clone())
            .machine(self.machine.clone())
            .store(disk)
            .options(options)
            .observer(move |event| seen.show(event))
            .build()
            .expect("a simulated disk can always be read");
        (client, screen)
    }

    /// Starts the client, and the person who uses it.
    pub fn start(self: &Arc<Self>, person: usize) {
        let (client, screen) = self.build();
        let tasks = vec![
            tokio::spawn(listen(Arc::clone(self), client.clone())),
            tokio::spawn(watch(Arc::clone(self), screen, client.clone(), person)),
            tokio::spawn(write(Arc::clone(self), client.clone())),
        ];
        client.start();
        *self.running.lock() = Some(Running { client, tasks });
        self.world.note(&self.name, "starts");
    }

    /// The client is dead; or, when the power goes, the machine.
    pub fn crash(&self, power: bool) {
        let Some(running) = self.running.lock().take() else {
            return;
        };
        running.tasks.iter().for_each(JoinHandle::abort);
        drop(running.client);
        let lost = if power { self.disk.cut() } else { 0 };
        if lost > 0 {
            self.world.reach("a disk loses what was not synced");
        }
        let words = format_args!("crashes and loses {lost} batches");
        self.world.note(&self.name, words);
    }

    /// Whether a client runs on it.
    pub fn is_running(&self) -> bool {
        self.running.lock().is_some()
    }

    /// Somebody sets its clock wrong by so much.
    pub fn set_clock_wrong_by_ms(&self, by_ms: i64) {
        self.machine.set_wrong_by_ms(by_ms);
    }

    fn client(&self) -> Option<Client> {
        self.running.lock().as_ref().map(|r| r.client.clone())
    }

    /// Does something by itself, apart from what the person does.
    pub async fn perform(&self, operation: Operation) {
        if let Some(client) = self.client() {
            operation.perform(self, &client).await;
        }
    }

    /// Why it does not show just these chats up to their heads, or is not at rest; nothing when it does and is.
    pub fn unfinished(&self, standings: &[Standing]) -> Option<String> {
        let Some(client) = self.client() else {
            return Some("it does not run".into());
        };
        let connection = client.connection().borrow().clone();
        if connection != Connection::Online {
            return Some(format!("it is {connection:?}"));
        }
        let faces = standings
            .iter()
            .map(|standing| (standing.chat.id.0, face(standing)));
        let faces: Vec<_> = faces.collect();
        if let Some((chat, how)) = unlike(&client, &faces) {
            return Some(format!("chat {chat}: {how}"));
        }
        (!client.is_settled()).then(|| format!("it has not settled: {:?}", client.outbox()))
    }

    /// How many events differ from the server's when they are compared by digests.
    pub async fn differing(&self, chat: i64) -> Option<i64> {
        let verified = self.client()?.verify(chat).await;
        verified.ok().map(|verified| verified.healed)
    }

    /// Everything that it shows of a chat, when the person scrolls to the top.
    pub async fn view(&self, chat: i64) -> View {
        let Some(client) = self.client() else {
            return View::new();
        };
        while matches!(client.older(chat, PAGE).await, Ok(1..)) {}
        let view = client.chat(chat, usize::MAX);
        let events = view.iter().flat_map(|view| &view.events);
        events.map(shown_line).collect()
    }
}

/// Keeps a ledger of what the client says of its messages.
async fn listen(device: Arc<Device>, client: Client) {
    let (mut changes, id) = (client.changes(), client.device_id());
    drop(client);
    loop {
        match changes.recv().await {
            Ok(Change::Message {
                client_message_id,
                state: State::Sent(seq),
                ..
            }) => {
                let key = (id.clone(), client_message_id);
                device.model.told(key, Outcome::Acked(seq));
            }
            Ok(Change::Reset) => device.world.note(&device.name, "begins anew"),
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Watches the connection. Who was signed out signs in again.
async fn watch(device: Arc<Device>, screen: Arc<Screen>, client: Client, person: usize) {
    let mut connection = client.connection();
    loop {
        let now = connection.borrow_and_update().clone();
        device.world.note(&device.name, format_args!("is {now:?}"));
        screen.online(now == Connection::Online);
        if let Connection::SignedOut(_) | Connection::Refused { .. } = now {
            device.world.reach("somebody must sign in again");
            let (name, password) = account(person);
            while client.sign_in(&name, &password).await.is_err() {
                device.world.pause((500, 5_000)).await;
            }
            client.start();
        }
        if connection.changed().await.is_err() {
            return;
        }
    }
}

/// The person.
async fn write(device: Arc<Device>, client: Client) {
    loop {
        device.pace.think(&device.world).await;
        let operation = Operation::draw(&device.world);
        operation.perform(&device, &client).await;
    }
}
