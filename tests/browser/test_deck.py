"""The questions of a node or the sidebar while their server answers late: by itself in a page, without ComfyUI."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

WEB = Path(__file__).parents[2] / "ui" / "web"
ADDRESS = "http://deck.test"
# In place of ComfyUI's own scripts. A request waits until the test answers it, the oldest of its path first.
API = """
const waiting = [];
window.answer = async (path, told) => {
  while (!waiting.some((one) => one.path === path)) await new Promise((go) => setTimeout(go));
  const [one] = waiting.splice(waiting.findIndex((other) => other.path === path), 1);
  one.go({ ok: true, json: async () => ({ pairs: [], waits: [], answers: 0, ...told }) });
  await new Promise((go) => setTimeout(go)); // whoever waited has gone on
  return one.body;
};
export const api = {
  fetchApi: (path, { body }) => new Promise((go) => waiting.push({ path, body: JSON.parse(body), go })),
  apiURL: (path) => path,
  addEventListener: () => {},
};
"""
START = """async () => {
  const { Deck } = await import("/palate/deck.js");
  window.person = "Ann";
  window.deck = new Deck(() => window.person);
  window.question = (offer) => ({ offer, images: ["a", "b"], prompt: "", outcome: null });
}"""


@pytest.fixture
def page(browser):
    """A page with a deck of Ann's."""

    def serve(route):
        path = route.request.url.removeprefix(ADDRESS)
        if path == "/":
            return route.fulfill(content_type="text/html", body="<!doctype html>")
        body = {"/scripts/api.js": API, "/scripts/app.js": "export const app = {};"}.get(path)
        return route.fulfill(content_type="text/javascript", body=body or (WEB / path[1:]).read_text())

    with browser.new_context() as context:
        context.set_default_timeout(60_000)
        context.route("**/*", serve)
        page = context.new_page()
        page.goto(f"{ADDRESS}/")
        page.evaluate(START)
        yield page


def test_an_undo_that_waits_its_turn_is_of_who_asked_for_it(page):
    asked, offers = page.evaluate("""async () => {
      const own = question("own");
      deck.put([own]);
      deck.answer(own, { outcome: "left" }, 1);
      const undone = deck.undo();
      person = "Bob";
      deck.clear();
      await answer("/palate/answer", { person: "Ann", pairs: [{ ...own, outcome: "left" }] });
      const asked = await answer("/palate/undo", { person: "Ann", undone: { outcome: "left" }, pairs: [own] });
      await undone;
      return [asked, deck.questions.map(({ offer }) => offer)];
    }""")
    assert asked == {"person": "Ann"}
    assert offers == []


def test_questions_that_arrive_for_somebody_before_are_not_asked_of_the_next(page):
    offers = page.evaluate("""async () => {
      const fetched = deck.refresh();
      await answer("/palate/pairs", { person: "Ann", pairs: [question("hers")] });
      person = "Bob"; // while it is asked how the questions stand that lie here
      deck.clear();
      await answer("/palate/pairs", { person: "Ann" });
      await fetched;
      return deck.questions.map(({ offer }) => offer);
    }""")
    assert offers == []


def test_answers_are_sent_however_badly_one_was_shown(page):
    told = page.evaluate("""async () => {
      const [first, second] = [question("first"), question("second")];
      deck.put([first, second]);
      const sent = deck.answer(first, { outcome: "left" }, 1).catch((error) => error.message);
      deck.changed = () => { deck.changed = () => {}; throw new Error("not shown"); };
      await answer("/palate/answer", { person: "Ann", pairs: [{ ...first, outcome: "left" }] });
      deck.answer(second, { outcome: "right" }, 1);
      return [await sent, await answer("/palate/answer", { person: "Ann" })];
    }""")
    assert told == ["not shown", {"offer": "second", "outcome": "right", "seconds": 1}]


@pytest.mark.parametrize(
    "away",
    ["throw new TypeError('Failed to fetch')", "return { ok: false, status: 502, json: () => Promise.reject() }"],
)
def test_an_answer_is_kept_while_the_server_is_away_and_sent_when_it_is_back(page, away):
    """Also behind a proxy, which answers in its place."""
    kept, body, answers, outcome = page.evaluate(
        """async (away) => {
      const { api } = await import("/scripts/api.js");
      const { fetchApi } = api;
      let refused = 0;
      const instead = new Function(away);
      api.fetchApi = async () => { refused += 1; return instead(); };
      const [first, second] = [question("first"), question("second")];
      deck.put([first, second]);
      const sent = deck.answer(first, { outcome: "left" }, 1);
      while (refused < 1) await new Promise((go) => setTimeout(go));
      const kept = [deck.current.offer, first.outcome];
      api.fetchApi = fetchApi;
      const told = { person: "Ann", answers: 1, pairs: [{ ...first, outcome: "left" }] };
      const body = await answer("/palate/answer", told);
      await sent;
      return [kept, body, deck.answers, first.outcome];
    }""",
        away,
    )
    assert kept == ["second", "left"]
    assert body == {"offer": "first", "outcome": "left", "seconds": 1, "again": True}
    assert (answers, outcome) == (1, "left")


def test_of_an_answer_that_arrived_unheard_the_second_try_changes_nothing(page):
    """Somebody has changed it since, say at another screen: the server is told that this click is not a new one."""
    assert page.evaluate("""async () => {
      const { api } = await import("/scripts/api.js");
      const { fetchApi } = api;
      const tries = [];
      api.fetchApi = async (path, { body }) => {
        tries.push(JSON.parse(body).again ?? false);
        api.fetchApi = fetchApi;
        throw new TypeError("Failed to fetch");
      };
      const own = question("own");
      deck.put([own]);
      const done = deck.answer(own, { outcome: "left" }, 1);
      const told = { person: "Ann", answers: 1, pairs: [{ ...own, outcome: "right" }] };
      tries.push((await answer("/palate/answer", told)).again);
      await done;
      return [tries, own.outcome, deck.answers, deck.wrong];
    }""") == [[False, True], "right", 1, None]


AWAY = """async () => {
  const { api } = await import("/scripts/api.js");
  window.real ??= api.fetchApi;
  window.asked = [];
  api.fetchApi = async (path) => { asked.push(path); throw new TypeError("Failed to fetch"); };
}"""
BACK = """async () => { (await import("/scripts/api.js")).api.fetchApi = window.real; }"""
# What the page says of answers that wait; there are no other texts here.
TEXTS = {"en": {"palate": {"wrong": {"kept": {"one": "one waits", "other": "{count} wait"}, "away": "away"}}}}
SPEAK = """async (texts) => {
  const { api } = await import("/scripts/api.js");
  const real = api.fetchApi;
  api.fetchApi = async () => ({ json: async () => texts });
  await (await import("/palate/texts.js")).loadTexts();
  api.fetchApi = real;
}"""


def kept(page):
    """What lies in the browser's storage."""
    return page.evaluate("() => Object.keys(localStorage).filter((key) => key.startsWith('Palate.Kept.')).length")


def start_again(page):
    page.reload()
    page.evaluate(START)
    page.evaluate(SPEAK, TEXTS)


def test_answers_that_wait_are_counted_and_those_behind_a_reload_too(page):
    page.evaluate(SPEAK, TEXTS)
    page.evaluate(AWAY)
    assert page.evaluate("""async () => {
      const [first, second, third] = ["first", "second", "third"].map(question);
      deck.put([first, second, third]);
      const said = [];
      deck.answer(first, { outcome: "left" }, 1);
      while (!deck.wrong) await new Promise((go) => setTimeout(go));
      said.push(deck.wrong);
      deck.answer(second, { outcome: "tie" }, 1);
      said.push(deck.wrong);
      person = "Bob";
      deck.answer(third, { outcome: "left" }, 1);
      said.push(deck.wrong);
      return said;
    }""") == ["one waits", "2 wait", "one waits"]
    assert kept(page) == 3
    start_again(page)
    page.evaluate(AWAY)
    assert page.evaluate("async () => { await deck.refresh(); return deck.wrong; }") == "2 wait"


def test_what_a_page_left_behind_is_sent_by_the_next_one_in_order_before_it_asks(page):
    page.evaluate(AWAY)
    page.evaluate("""() => {
      const [first, second] = [question("first"), question("second")];
      deck.put([first, second]);
      deck.answer(first, { outcome: "left", much: true }, 1);
      deck.answer(second, { outcome: "ranked", tiers: [["a"], ["b"]] }, 2);
    }""")
    start_again(page)
    sent = page.evaluate("""async () => {
      const done = deck.refresh();
      const sent = [await answer("/palate/answer", { person: "Ann" })];
      sent.push(await answer("/palate/answer", { person: "Ann" }));
      await answer("/palate/pairs", { person: "Ann" });
      await answer("/palate/pairs", { person: "Ann" });
      await done;
      return sent;
    }""")
    assert sent == [
        {"offer": "first", "outcome": "left", "seconds": 1, "much": True, "again": True},
        {"offer": "second", "outcome": "ranked", "seconds": 2, "tiers": [["a"], ["b"]], "again": True},
    ]
    assert kept(page) == 0


def test_an_answer_that_this_server_does_not_know_stays_for_the_one_that_does(page):
    """Two servers with a store each can stand behind one address, one after the other."""
    page.evaluate(AWAY)
    page.evaluate("() => { deck.put([question('own')]); deck.answer(deck.current, { outcome: 'left' }, 1); }")
    page.evaluate("() => localStorage.setItem('Palate.Kept.1.x', '{\"path\": \"/somewhere\"')")
    start_again(page)
    refused = """async () => {
      const { api } = await import("/scripts/api.js");
      api.fetchApi = async () => ({ ok: false, status: 400, json: async () => ({ error: "There is none." }) });
      const { resend, waiting } = await import("/palate/outbox.js");
      await resend();
      return waiting("Ann");
    }"""
    assert page.evaluate(refused) is None
    assert kept(page) == 1


def test_kept_answers_have_a_bound_and_the_oldest_make_room(page):
    page.evaluate(AWAY)
    left = page.evaluate("""async () => {
      const [before, path] = [Date.now() - 1000, "/palate/answer"];
      for (let at = before; at < before + 600; at++) {
        localStorage.setItem(`Palate.Kept.${at}.x`, JSON.stringify({ person: "Ann", path, body: {}, at }));
      }
      deck.put([question("own")]);
      deck.answer(deck.current, { outcome: "left" }, 1);
      const keys = Object.keys(localStorage).filter((key) => key.startsWith("Palate.Kept.")).sort();
      return [keys.length, keys[0] === `Palate.Kept.${before + 101}.x`, keys.at(-1).endsWith(".x")];
    }""")
    assert left == [500, True, False]


def test_where_nothing_can_be_stored_an_answer_is_kept_by_the_page(page):
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('QuotaExceededError'); }; }")
    page.evaluate(AWAY)
    page.evaluate("() => { deck.put([question('own')]); deck.answer(deck.current, { outcome: 'left' }, 1); }")
    page.wait_for_function("() => asked.length > 0")
    page.evaluate(BACK)
    body = page.evaluate("() => answer('/palate/answer', { person: 'Ann' })")
    assert body["offer"] == "own"
    page.wait_for_function("() => deck.underway === 0")


def test_a_second_look_is_kept_while_the_server_is_away(page):
    page.evaluate(SPEAK, TEXTS)
    page.evaluate("""async () => {
      const { Slips } = await import("/palate/slips.js");
      window.ended = [];
      window.slips = new Slips(() => "Ann", (looked) => ended.push(looked));
      const slip = (id) => ({ id, images: ["a", "b"], left: "a", right: "b", prompt: "", outcome: "left" });
      const loaded = slips.load();
      await answer("/palate/slips", { slips: [slip(7), slip(8)] });
      await loaded;
    }""")
    page.evaluate(AWAY)
    said = page.evaluate("""async () => {
      slips.answer(slips.current, { outcome: "right" });
      while (!slips.wrong) await new Promise((go) => setTimeout(go));
      const said = [slips.wrong, slips.current.id];
      slips.answer(slips.current, { outcome: "left" });
      return [...said, slips.wrong];
    }""")
    assert said == ["one waits", 8, "2 wait"]
    assert kept(page) == 2
    page.evaluate(BACK)
    first = page.evaluate("() => answer('/palate/look', { person: 'Ann' })")
    second = page.evaluate("() => answer('/palate/look', { person: 'Ann' })")
    assert first == {"person": "Ann", "id": 7, "left": "a", "before": "left", "outcome": "right", "again": True}
    assert (second["id"], second["outcome"]) == (8, "left")
    page.wait_for_function("() => ended.length")
    assert page.evaluate("() => [ended, slips.wrong]") == [[2], None]
    assert kept(page) == 0


def test_what_became_of_an_answer_is_not_said_to_somebody_else(page):
    wrong = page.evaluate("""async () => {
      const { api } = await import("/scripts/api.js");
      api.fetchApi = async () => ({ ok: false, status: 400, json: async () => ({ error: "It is gone." }) });
      const tell = async (after) => {
        person = "Ann";
        const own = question("own");
        deck.put([own]);
        const done = deck.answer(own, { outcome: "left" }, 1);
        person = after;
        await done;
        return deck.wrong;
      };
      return [await tell("Ann"), await tell("Bob")];
    }""")
    assert wrong == ["It is gone.", None]


def test_what_was_fetched_for_somebody_before_does_not_make_the_next_ready(page):
    ready = page.evaluate("""async () => {
      const { State } = await import("/palate/state.js");
      localStorage.setItem("Palate.Person", "Ann");
      const state = new State();
      const first = state.refresh();
      await answer("/palate/people", { people: [] });
      await answer("/palate/pairs", { person: "Ann" });
      state.choose("Bob");
      await answer("/palate/pairs", { person: "Ann" }); // how the questions stand that lie here
      await answer("/palate/pairs", { person: "Bob", open: 5, answers: 50 });
      await first;
      return state.ready; // Bob's own questions are on their way
    }""")
    assert ready is False


def test_of_a_thousand_selected_pictures_the_server_hears_how_many_they_are(page):
    body, letters = page.evaluate("""async () => {
      const { compare } = await import("/palate/anywhere.js");
      const { app } = await import("/scripts/app.js");
      const images = Array.from({ length: 1000 }, (_, i) => (
        { filename: `${"a".repeat(60)}_${i}.png`, subfolder: "", type: "temp" }));
      app.nodeOutputs = { 1: { images }, 2: { images } };
      const state = { ready: true, person: "Ann", bring: async () => {} };
      const node = (id) => ({ id, comfyClass: "PreviewImage", graph: { isRootGraph: true } });
      const done = compare(state, [node(1), node(2)]);
      const body = await answer("/palate/compare", { person: "Ann", pairs: [{ offer: "own", outcome: null }] });
      await done;
      return [body, JSON.stringify(body).length];
    }""")
    assert (body["count"], len(body["images"]), body["images"][0]["type"]) == (1000, 100, "temp")
    assert letters < 20_000


def test_a_finger_in_the_viewer_does_not_say_not_much_better(page):
    assert page.evaluate("""async () => {
      const { Viewer } = await import("/palate/viewer.js");
      const given = [];
      const answering = { act: (name, much) => given.push(much), pick: (index, much) => given.push(much) };
      const viewer = Object.assign(Object.create(Viewer.prototype), { answering, dialog: null });
      for (const data of [{ act: "left" }, { index: "1" }]) {
        const target = document.createElement("button");
        Object.assign(target.dataset, data);
        viewer.click({ target, pointerType: "touch", shiftKey: false, detail: 0 });
        viewer.click({ target, pointerType: "mouse", shiftKey: false, detail: 0 });
      }
      return given;
    }""") == [None, False, None, False]


def test_where_no_words_were_read_it_says_how(page):
    texts = page.evaluate("""async () => {
      const { Learned } = await import("/palate/learned.js");
      const learned = new Learned();
      const lines = (likes, strip) => {
        learned.draw({ likes, dislikes: likes, strip, answers: 40, verdict: "few" }, 40);
        return learned.words.querySelectorAll("p").length;
      };
      return [lines(null, []), lines([], []), lines(null, null)];
    }""")
    assert texts == [1, 0, 0]
