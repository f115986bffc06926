use proptest::prelude::*;

use super::*;

type Picks = Vec<Pick<u8>>;

fn balancer(keys: &[u8]) -> Balancer<u8> {
    let mut balancer = Balancer::new(Options::default(), 7);
    balancer.know(keys);
    balancer
}

fn later(now: Instant, ms: u64) -> Instant {
    now + Duration::from_millis(ms)
}

/// Has one call to a certain one end in some way, whatever else is picked for it.
fn one_call(balancer: &mut Balancer<u8>, key: u8, how: End, now: Instant) -> Option<Turn> {
    let others: Vec<u8> = balancer.known.iter().map(|one| one.key).collect();
    let others: Vec<u8> = others.into_iter().filter(|other| *other != key).collect();
    let pick = balancer.pick(&others, now).expect("it is there");
    balancer.ended(&pick, how, now)
}

#[test]
fn who_is_away_gets_no_call_until_it_is_tried_by_one() {
    let (mut balancer, now) = (balancer(&[1, 2]), Instant::now());
    assert_eq!(one_call(&mut balancer, 1, End::Away, now), Some(Turn::Out));
    for _ in 0..50 {
        let pick = balancer.pick(&[], now).unwrap();
        assert_eq!((pick.key, pick.is_trial), (2, false));
    }
    let due = later(now, 500);
    let trial = balancer.pick(&[], due).unwrap();
    assert_eq!((trial.key, trial.is_trial), (1, true));
    assert_eq!(balancer.pick(&[], due).unwrap().key, 2, "one tries it");
    assert_eq!(balancer.ended(&trial, End::Answered, due), Some(Turn::In));
    assert_eq!(balancer.pick(&[], due).unwrap().key, 1);
}

#[test]
fn a_trial_that_nobody_waited_for_is_made_by_the_next_call() {
    let (mut balancer, now) = (balancer(&[1, 2]), Instant::now());
    one_call(&mut balancer, 1, End::Away, now);
    let due = later(now, 500);
    let trial = balancer.pick(&[], due).unwrap();
    assert_eq!(balancer.ended(&trial, End::Unknown, due), None);
    assert!(balancer.pick(&[], due).unwrap().is_trial);
}

#[test]
fn who_is_slow_now_and_then_stays_in() {
    let (mut balancer, now) = (balancer(&[1, 2]), Instant::now());
    for _ in 0..10 {
        assert_eq!(one_call(&mut balancer, 1, End::Slow, now), None);
        assert_eq!(one_call(&mut balancer, 1, End::Slow, now), None);
        assert_eq!(one_call(&mut balancer, 1, End::Answered, now), None);
    }
    one_call(&mut balancer, 1, End::Slow, now);
    one_call(&mut balancer, 1, End::Slow, now);
    assert_eq!(one_call(&mut balancer, 1, End::Slow, now), Some(Turn::Out));
}

#[test]
fn when_all_are_slow_half_of_them_stay_in() {
    let (mut balancer, now) = (balancer(&[1, 2, 3, 4, 5]), Instant::now());
    for key in 1..=5 {
        for _ in 0..Options::default().slow_max {
            one_call(&mut balancer, key, End::Slow, now);
        }
    }
    assert_eq!(balancer.count(), (5, 2));
}

#[test]
fn when_all_are_away_calls_go_to_all() {
    let (mut balancer, now) = (balancer(&[1, 2]), Instant::now());
    for key in [1, 2] {
        one_call(&mut balancer, key, End::Away, now);
    }
    let keys = [(); 2].map(|()| balancer.pick(&[], now).unwrap().key);
    assert!(keys.contains(&1) && keys.contains(&2));
    let pick = balancer.pick(&[], now).unwrap();
    let turn = balancer.ended(&pick, End::Answered, now);
    assert_eq!(turn, Some(Turn::In), "who answers is in");
}

#[test]
fn the_pause_grows_to_its_bound_and_is_forgotten_by_who_stays_well() {
    let (mut balancer, mut now) = (balancer(&[1, 2]), Instant::now());
    let pause_max = Options::default().pause_max;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        one_call(&mut balancer, 1, End::Away, now);
        let until = balancer.known[0].out.as_ref().unwrap().until;
        longest = longest.max(until - now);
        assert!(until - now <= pause_max);
        now = until;
    }
    assert!(longest > pause_max / 2);
    assert_eq!(
        one_call(&mut balancer, 1, End::Answered, now),
        Some(Turn::In)
    );
    now += pause_max;
    one_call(&mut balancer, 1, End::Answered, now);
    one_call(&mut balancer, 1, End::Away, now);
    let until = balancer.known[0].out.as_ref().unwrap().until;
    assert!(until - now <= Options::default().pause);
}

#[test]
fn who_leaves_is_tried_again_after_the_first_pause_however_often() {
    let (mut balancer, mut now) = (balancer(&[1, 2]), Instant::now());
    for _ in 0..5 {
        let turn = one_call(&mut balancer, 1, End::Leaves, now);
        assert_eq!(turn, Some(Turn::Out));
        now += Options::default().pause;
        assert_eq!(
            one_call(&mut balancer, 1, End::Answered, now),
            Some(Turn::In)
        );
    }
}

#[test]
fn many_calls_that_are_lost_together_count_once() {
    let (mut balancer, now) = (balancer(&[1]), Instant::now());
    let picks: Picks = (0..50).map(|_| balancer.pick(&[], now).unwrap()).collect();
    let turns = picks
        .iter()
        .filter_map(|pick| balancer.ended(pick, End::Away, now));
    assert_eq!(turns.count(), 1);
    assert_eq!(balancer.known[0].outs, 1);
}

#[test]
fn what_is_full_gets_nothing_more() {
    let (mut balancer, now) = (balancer(&[1, 2]), Instant::now());
    let max = Options::default().under_way_max * 2;
    let picks: Picks = (0..max).filter_map(|_| balancer.pick(&[], now)).collect();
    assert_eq!(picks.len(), max);
    assert_eq!(balancer.pick(&[], now), None);
    balancer.ended(&picks[0], End::Answered, now);
    assert!(balancer.pick(&[], now).is_some());
}

#[test]
fn one_call_in_ten_may_go_again_in_the_long_run() {
    let (mut balancer, now) = (balancer(&[1]), Instant::now());
    let mut again = 0;
    for _ in 0..1_000 {
        let pick = balancer.pick(&[], now).unwrap();
        balancer.ended(&pick, End::Slow, now);
        again += u32::from(balancer.may_go_again());
    }
    assert!((100..=110).contains(&again), "{again}");
}

#[test]
fn who_is_known_on_keeps_what_is_known_of_it() {
    let (mut balancer, now) = (balancer(&[1, 2]), Instant::now());
    one_call(&mut balancer, 1, End::Away, now);
    balancer.know(&[3, 1]);
    assert_eq!(balancer.count(), (2, 1));
    assert_eq!(balancer.pick(&[], now).unwrap().key, 3);
}

/// What happens to a balancer.
#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// The n-th of those under way ends, as its place does.
    End(usize),
    Wait(u64),
    /// Who is the n-th changes.
    Change(u8, End),
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        Just(End::Answered),
        Just(End::Away),
        Just(End::Slow),
        Just(End::Leaves),
        Just(End::Unknown)
    ];
    prop_oneof![
        4 => Just(Step::Begin),
        3 => any::<usize>().prop_map(Step::End),
        1 => (0..3_000_u64).prop_map(Step::Wait),
        1 => (0..5_u8, end).prop_map(|(key, end)| Step::Change(key, end)),
    ]
}

proptest! {
    #[test]
    fn among_those_that_are_in_the_load_never_differs_by_more_than_one(
        len in 1..6_u8,
        ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..200),
    ) {
        let (mut balancer, now) = (balancer(&(0..len).collect::<Vec<_>>()), Instant::now());
        // Calls that end take from anybody; those that begin even it out again.
        let mut under_way: Picks = Vec::new();
        for end in ends {
            for _ in 0..usize::from(len) {
                under_way.extend(balancer.pick(&[], now));
            }
            if under_way.len() > 50 {
                balancer.ended(&under_way.swap_remove(end.index(50)), End::Answered, now);
            }
            let least = balancer.known.iter().map(|one| one.under_way).min();
            let pick = balancer.pick(&[], now);
            if let Some(pick) = pick {
                let of_it = balancer.of(&pick.key).map(|one| one.under_way - 1);
                prop_assert_eq!(of_it, least);
                under_way.push(pick);
            }
        }
        // Nobody ended: it is even.
        let mut fresh = self::balancer(&(0..len).collect::<Vec<_>>());
        for _ in 0..77 {
            _ = fresh.pick(&[], now);
            let loads = fresh.known.iter().map(|one| one.under_way);
            let (least, most) = (loads.clone().min(), loads.max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
        }
    }

    #[test]
    fn whatever_happened_all_that_are_well_again_are_in_within_the_bound(
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        let keys: Vec<u8> = (0..5).collect();
        let (mut balancer, mut now) = (balancer(&keys), Instant::now());
        let mut state = [End::Answered; 5];
        let mut under_way: Picks = Vec::new();
        for step in steps {
            match step {
                Step::Begin => under_way.extend(balancer.pick(&[], now)),
                Step::End(nth) if !under_way.is_empty() => {
                    let pick = under_way.swap_remove(nth % under_way.len());
                    balancer.ended(&pick, state[usize::from(pick.key)], now);
                }
                Step::End(_) => {}
                Step::Wait(ms) => now = later(now, ms),
                Step::Change(key, end) => state[usize::from(key)] = end,
            }
            for (one, key) in balancer.known.iter().zip(&keys) {
                let here = under_way.iter().filter(|pick| pick.key == *key).count();
                prop_assert_eq!(one.under_way, here, "what is under way to {}", key);
                if let Some(out) = &one.out {
                    prop_assert!(out.until <= now + Options::default().pause_max);
                }
            }
        }
        for pick in under_way {
            balancer.ended(&pick, End::Unknown, now);
        }
        // Everybody is well from here on, and calls go on coming.
        now += Options::default().pause_max;
        for _ in 0..keys.len() {
            let pick = balancer.pick(&[], now).unwrap();
            balancer.ended(&pick, End::Answered, now);
        }
        prop_assert_eq!(balancer.count(), (5, 0));
        // And nobody is starved: with calls that stay, everybody has one.
        let mut chosen: Vec<u8> = (0..5).map(|_| balancer.pick(&[], now).unwrap().key).collect();
        chosen.sort_unstable();
        prop_assert_eq!(chosen, keys);
    }
}
