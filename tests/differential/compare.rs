//! Plays a script on both sides and tells where they differ.

use std::fmt::Write as _;

use crate::ground::{Ground, PROBES};
use crate::play::{DIRECT_SESSION, Player, Side};
use crate::script::{Act, Action, Run, Script, Step};
use crate::trace::Line;

#[derive(Debug)]
pub(crate) enum Outcome {
    Same,
    /// The script up to the difference, with the answers.
    Different(String),
    /// A session acts while another holds the only connection: that says nothing.
    Meaningless,
}

/// Plays a script with PostgreSQL and then through pgweir, there up to the first difference.
pub(crate) fn compare(ground: &mut Ground, script: &Script, run: Run) -> Outcome {
    let steps: Vec<Step> = script.steps.iter().cloned().chain(probes(script)).collect();
    let direct = ground.direct();
    let (expected, _) = play(ground, script, &steps, Player::new(direct, run), None);
    if script.pool.size() == 1 && !takes_turns(&steps, &expected) {
        return Outcome::Meaningless;
    }
    let pooled: Side = ground.pooled(script.pool);
    let (found, end) = play(ground, script, &steps, Player::new(pooled, run), Some(&expected));
    match end {
        End::Complete => Outcome::Same,
        End::Difference => Outcome::Different(report(&steps, &expected, &found)),
    }
}

/// Whether no session of the pool acts while another is in a block.
fn takes_turns(steps: &[Step], answers: &[Vec<Line>]) -> bool {
    let mut holder = None;
    for (step, lines) in steps.iter().zip(answers) {
        let Action::Session(name, act) = &step.action else {
            continue;
        };
        if *name == DIRECT_SESSION {
            continue;
        }
        if holder.is_some_and(|holder| holder != *name) {
            return false;
        }
        let ready = lines
            .iter()
            .rev()
            .find_map(|line| line.text.strip_prefix("ready "));
        holder = match (act, ready) {
            (Act::Leave | Act::Vanish, _) | (_, Some("I")) => None,
            (_, Some(_)) => Some(*name),
            (_, None) => holder,
        };
    }
    true
}

enum End {
    Complete,
    Difference,
}

/// The answers to each step; with answers to expect, up to the first step that is answered differently.
fn play(
    ground: &mut Ground,
    script: &Script,
    steps: &[Step],
    mut player: Player,
    expected: Option<&[Vec<Line>]>,
) -> (Vec<Vec<Line>>, End) {
    ground.prepare(&script.setup);
    let mut answers: Vec<Vec<Line>> = Vec::new();
    let mut end = End::Complete;
    for step in steps {
        let lines = match &step.action {
            Action::Wait(sql) => {
                ground.wait(sql);
                Vec::new()
            }
            Action::Session(name, act) => player.act(*name, act),
        };
        let is_same = expected.is_none_or(|expected| is_same(&expected[answers.len()], &lines));
        answers.push(lines);
        if !is_same {
            end = End::Difference;
            break;
        }
    }
    player.end();
    (answers, end)
}

/// At the end all sessions leave, and as many new ones as there are server connections look for what was left behind.
fn probes(script: &Script) -> Vec<Step> {
    let acts = |name: char, act: Act, text: &str| Step {
        text: format!("{name}{text}"),
        action: Action::Session(name, act),
    };
    let mut names: Vec<char> = script
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Session(name, _) => Some(*name),
            Action::Wait(_) => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut steps: Vec<Step> = names
        .into_iter()
        .map(|name| acts(name, Act::Leave, "."))
        .collect();
    let probes = ('P'..).take(script.pool.size());
    for name in probes {
        let queries = ["BEGIN"].iter().chain(PROBES);
        steps.extend(queries.map(|sql| acts(name, Act::Query((*sql).to_owned()), &format!(":: {sql}"))));
    }
    steps
}

fn is_same(one: &[Line], two: &[Line]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.is_same(two))
}

/// The lines of the script with their answers; what PostgreSQL alone said has a minus, what pgweir alone said a plus.
fn report(steps: &[Step], expected: &[Vec<Line>], found: &[Vec<Line>]) -> String {
    let mut text = String::new();
    let count = found.len();
    for ((step, expected), found) in steps.iter().zip(expected).zip(found) {
        let _ = writeln!(text, "    {}", step.text);
        if is_same(expected, found) {
            let greeting = found.iter().rposition(|line| line.text == "key");
            let lines = &found[greeting.map_or(0, |at| at + 2)..];
            let signed = lines.iter().map(|line| (Sign::Both, line.text.as_str()));
            show(&signed.take(LINES_SHOWN_MAX).collect::<Vec<_>>(), &mut text);
        } else {
            show(&near_changes(&difference(expected, found)), &mut text);
        }
    }
    let rest = steps.len() - count;
    let _ = writeln!(
        text,
        "    ({rest} lines of the script and its probes were not played)"
    );
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Both,
    DirectAlone,
    PooledAlone,
}

fn show(lines: &[(Sign, &str)], text: &mut String) {
    for (sign, line) in lines {
        let sign = match sign {
            Sign::Both => ' ',
            Sign::DirectAlone => '-',
            Sign::PooledAlone => '+',
        };
        let _ = writeln!(text, "          {sign} {line}");
    }
}

/// Line by line, with the longest common part kept.
fn difference<'a>(expected: &'a [Line], found: &'a [Line]) -> Vec<(Sign, &'a str)> {
    let (mut at, mut other) = (0, 0);
    let lengths = common_lengths(expected, found);
    let mut signed = Vec::new();
    while at < expected.len() || other < found.len() {
        let both = expected.get(at).zip(found.get(other));
        if both.is_some_and(|(one, two)| one.is_same(two)) {
            signed.push((Sign::Both, found[other].text.as_str()));
            (at, other) = (at + 1, other + 1);
        } else if other == found.len()
            || (at < expected.len() && lengths[at + 1][other] >= lengths[at][other + 1])
        {
            signed.push((Sign::DirectAlone, expected[at].text.as_str()));
            at += 1;
        } else {
            signed.push((Sign::PooledAlone, found[other].text.as_str()));
            other += 1;
        }
    }
    signed
}

/// Without long stretches of what is the same.
fn near_changes<'a>(lines: &[(Sign, &'a str)]) -> Vec<(Sign, &'a str)> {
    let is_near = |at: usize| {
        let around = at.saturating_sub(2)..(at + 3).min(lines.len());
        lines[around].iter().any(|(sign, _)| *sign != Sign::Both)
    };
    let kept = (0..lines.len()).filter(|at| is_near(*at));
    kept.map(|at| lines[at]).collect()
}

/// Of each pair of tails, how many lines they have in common.
fn common_lengths(one: &[Line], two: &[Line]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; two.len() + 1]; one.len() + 1];
    for at in (0..one.len()).rev() {
        for other in (0..two.len()).rev() {
            lengths[at][other] = if one[at].is_same(&two[other]) {
                lengths[at + 1][other + 1] + 1
            } else {
                lengths[at + 1][other].max(lengths[at][other + 1])
            };
        }
    }
    lengths
}

/// Of answers that are the same.
const LINES_SHOWN_MAX: usize = 10;
