// The console: sign in, ask, read the answer beside its sources, say what it was worth.
// All text enters the page as text, never as markup; all data comes from the gateway's own API.
"use strict";

const $ = (id) => document.getElementById(id);
const state = { csrf: null, assistants: [], answer: null, rating: null, key: null };

class ApiError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function api(path, body, headers = {}) {
  const options = { credentials: "same-origin", headers: { ...headers } };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
    options.headers["X-CSRF-Token"] = state.csrf;
  }
  let response;
  try { response = await fetch(path, options); } catch { throw new ApiError(0, T.offline); }
  const content = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, content?.error?.message || T.offline);
  return content;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function problem(message) {
  $("problem").textContent = message || "";
  $("problem").hidden = !message;
}

function failed(error) {
  if (error.status === 401) showSignedOut(); else problem(error.message);
}

function showSignedOut() {
  $("workspace").hidden = true;
  $("who").hidden = true;
  $("sign-in-failed").hidden = new URLSearchParams(location.search).get("signin") !== "failed";
  $("signed-out").hidden = false;
}

async function start() {
  document.documentElement.lang = LANGUAGE;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = T[node.dataset.word];
  let session;
  try { session = await api("/console/session"); } catch (error) { showSignedOut(); if (error.status !== 401) problem(error.message); return; }
  state.csrf = session.csrf;
  $("user").textContent = session.user;
  $("who").hidden = false;
  $("workspace").hidden = false;
  try { state.assistants = (await api("/v1/models")).data; } catch (error) { failed(error); return; }
  $("assistant").replaceChildren(...state.assistants.map((one) => element("option", { value: one.id, textContent: one.id })));
  if (!state.assistants.length) problem(T.noAssistants);
  $("send").disabled = !state.assistants.length;
  describeAssistant();
  $("question").focus();
}

function assistant() { return state.assistants.find((one) => one.id === $("assistant").value); }

function describeAssistant() {
  const chosen = assistant();
  $("about").textContent = chosen?.affinage.description || "";
  $("hint").textContent = chosen && !chosen.affinage.sourced ? T.hintText : T.hint;
}

async function ask(event) {
  event.preventDefault();
  if ($("send").disabled) return;  // the assistants are not known yet, or an answer is under way
  problem("");
  const question = $("question").value.trim();
  if (!question) { $("question").focus(); return; }
  $("send").disabled = true;
  $("send").textContent = T.sending;
  try {
    const reply = await api("/v1/chat/completions", { model: $("assistant").value, messages: [{ role: "user", content: question }] });
    show(question, reply);
  } catch (error) { failed(error); } finally {
    $("send").disabled = false;
    $("send").textContent = T.send;
  }
}

function show(question, reply) {
  const about = reply.affinage;
  const sourced = assistant().affinage.sourced;
  state.answer = about;
  $("asked").textContent = question;
  $("known").textContent = about.known ? (sourced ? T.known : T.checked) : T.unknown;
  $("known").className = about.known ? "badge good" : "badge";
  showText(reply.choices[0].message.content, about.citations);
  $("citations").replaceChildren(...about.citations.map(citation));
  $("no-sources").hidden = about.citations.length > 0;
  $("no-sources").textContent = sourced ? T.noSources : T.noEvidence;
  document.querySelector("label[for=correction]").textContent = sourced ? T.correction : T.correctionText;
  resetFeedback();
  $("result").hidden = false;
  $("result").scrollIntoView({ block: "nearest" });
}

// Markers such as [1] become buttons that lead to their source.
function showText(text, citations) {
  const numbers = new Set(citations.filter((c) => c.document !== "question").map((c) => c.n));
  const parts = text.split(/(\[\d+\])/).map((part) => {
    const n = Number(/^\[(\d+)\]$/.exec(part)?.[1]);
    if (!numbers.has(n)) return document.createTextNode(part);
    const marker = element("button", { type: "button", className: "marker", textContent: n, title: `${T.sources} ${n}` });
    marker.addEventListener("click", () => { $(`citation-${n}`).focus(); });
    return marker;
  });
  $("text").replaceChildren(...parts);
}

function citation(one) {
  const item = element("li", { id: `citation-${one.n}`, tabIndex: -1, className: "citation" });
  const title = one.document === "question" ? T.inQuestion : one.title || one.document;
  item.append(element("p", { className: "title" }, element("span", { className: "number", textContent: one.n }), ` ${title}`));
  item.append(element("blockquote", {}, element("mark", { textContent: one.quote })));
  if (one.document !== "question") {
    const where = one.page ? `${one.document}, ${T.page} ${one.page}` : one.document;
    item.append(element("p", { className: "about", textContent: where }));
    const open = element("button", { type: "button", className: "quiet open", textContent: T.open });
    open.addEventListener("click", () => openDocument(one));
    item.append(open);
  }
  return item;
}

async function openDocument(one) {
  problem("");
  const path = one.document.split("/").map(encodeURIComponent).join("/");
  let found;
  try { found = await api(`/v1/documents/${path}`); } catch (error) { failed(error); return; }
  $("document-title").textContent = found.title || one.document;
  $("document-path").textContent = one.page ? `${one.document}, ${T.page} ${one.page}` : one.document;
  // Offsets count characters (code points), JavaScript strings count UTF-16 units.
  const characters = Array.from(found.text);
  const middle = characters.slice(one.start, one.end).join("");
  const holds = middle === one.quote;
  const marked = element("mark", { textContent: middle, tabIndex: -1 });
  if (holds) $("document-text").replaceChildren(characters.slice(0, one.start).join(""), marked, characters.slice(one.end).join(""));
  else $("document-text").textContent = found.text;
  $("document").showModal();
  if (holds) marked.scrollIntoView({ block: "center" });
}

function resetFeedback() {
  state.rating = null;
  state.key = null;
  for (const id of ["up", "down"]) { $(id).setAttribute("aria-pressed", "false"); $(id).disabled = false; }
  $("details").hidden = true;
  $("thanks").textContent = "";
  $("comment").value = "";
  $("correction").value = "";
  const label = element("p", { textContent: T.reasonsTitle, className: "group-label" });
  const boxes = assistant().affinage.reasons.map((reason) => {
    const box = element("input", { type: "checkbox", value: reason, name: "reason" });
    return element("label", { className: "reason" }, box, ` ${T.reasons[reason] || reason}`);
  });
  $("reasons").replaceChildren(label, ...boxes);
}

async function send(extra) {
  const body = { answer_id: state.answer.answer_id, rating: state.rating, ...extra };
  // One key for one submission: when the network fails, sending again stores nothing twice.
  state.key = state.key || Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  try {
    await api("/v1/feedback", body, { "Idempotency-Key": state.key });
    state.key = null;
    $("thanks").textContent = T.thanks;
  } catch (error) {
    if (error.status) state.key = null;
    failed(error);
  }
}

async function rate(value) {
  state.rating = value;
  problem("");
  $("thanks").textContent = "";
  for (const id of ["up", "down"]) $(id).setAttribute("aria-pressed", String(id === value));
  $("details").hidden = value !== "down";
  if (value === "up") await send({}); else $("comment").focus();
}

async function sendDetails(event) {
  event.preventDefault();
  problem("");
  const extra = { reasons: Array.from(document.querySelectorAll("input[name=reason]:checked"), (box) => box.value) };
  if ($("comment").value.trim()) extra.comment = $("comment").value.trim();
  if ($("correction").value.trim()) extra.correction = $("correction").value.trim();
  await send(extra);
}

async function signOut() {
  try { await api("/console/logout", {}); } catch (error) { if (error.status !== 401) { problem(error.message); return; } }
  location.assign("/");
}

document.addEventListener("DOMContentLoaded", () => {
  $("ask").addEventListener("submit", ask);
  $("assistant").addEventListener("change", describeAssistant);
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("ask").requestSubmit(); }
  });
  $("up").addEventListener("click", () => rate("up"));
  $("down").addEventListener("click", () => rate("down"));
  $("rate").addEventListener("submit", sendDetails);
  $("sign-out").addEventListener("click", signOut);
  $("close-document").addEventListener("click", () => $("document").close());
  start();
});
