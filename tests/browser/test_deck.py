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
      while (refused < 2) await new Promise((go) => setTimeout(go));
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
    assert body == {"offer": "first", "outcome": "left", "seconds": 1}
    assert (answers, outcome) == (1, "left")


def test_an_answer_that_arrived_unheard_is_not_sent_again(page):
    assert page.evaluate("""async () => {
      const { api } = await import("/scripts/api.js");
      const { fetchApi } = api;
      let sent = 0;
      api.fetchApi = async (path, told) => {
        if (path !== "/palate/answer") return fetchApi(path, told);
        sent += 1;
        throw new TypeError("Failed to fetch");
      };
      const own = question("own");
      deck.put([own]);
      const done = deck.answer(own, { outcome: "left" }, 1);
      await answer("/palate/pairs", { person: "Ann", answers: 1, pairs: [{ ...own, outcome: "left" }] });
      await done;
      return [sent, own.outcome, deck.answers, deck.wrong];
    }""") == [1, "left", 1, None]


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
