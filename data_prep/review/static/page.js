// Keys, saving, and drafts of edits that were not saved. The page itself comes whole from the server.
'use strict';
const one = (id) => document.getElementById(id);
const form = one('edit'), why = one('why'), photo = one('photo');
const draft = `draft ${document.body.dataset.row}`;
const past = {accept: 'accepted', edit: 'edited', reject: 'rejected'};
let saving = false;

function say(text, wrong = false) {
  one('status').textContent = text;
  one('status').classList.toggle('wrong', wrong);
}

function texts() {
  return Object.fromEntries([...form.querySelectorAll('textarea')].map((area) => [area.name, area.value]));
}

const editing = () => document.body.classList.contains('edited');

function edit(open) {
  document.body.classList.toggle('edited', open);
  if (open) form.querySelector('textarea').focus();
}

async function decide(decision) {
  if (saving) return;
  saving = true;
  say('saving …');
  try {
    const answer = await fetch(location.pathname, {
      method: 'POST', headers: {'Content-Type': 'application/json'},
      body: JSON.stringify({sha256: document.body.dataset.row, decision, fields: decision === 'edit' ? texts() : {},
        why: why.value})});
    const said = await answer.json();
    if (answer.ok) {
      localStorage.removeItem(draft);
      sessionStorage.setItem('last', `Row ${document.body.dataset.number} is ${past[decision]}, and that is saved.`);
      location.assign(said.next);
      return;
    }
    say(said.error, true);
  } catch {
    say('Not saved: the server does not answer. Start the same command again and open the address it prints; an edit '
      + 'you have begun is kept in this browser.', true);
  }
  saving = false;
}

function keys(event) {
  const typing = event.target.matches('textarea, input');
  if (event.key === 'Escape') {
    event.target.blur();
    if (editing()) cancel();
  } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && editing()) {
    decide('edit');
  } else if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat && !editing()) {
    const go = (which) => document.querySelector(`nav a[rel=${which}]`)?.click();
    const does = {a: () => decide('accept'), e: () => one('open')?.click(), r: () => decide('reject'),
      w: () => why.focus(), arrowleft: () => go('prev'), arrowright: () => go('next')}[event.key.toLowerCase()];
    if (!does) return;
    does();
  } else {
    return;
  }
  event.preventDefault();
}

function cancel() {
  form.reset();
  localStorage.removeItem(draft);
  edit(false);
  say('');
}

if (form) {
  const last = sessionStorage.getItem('last');
  if (last) say(last);
  sessionStorage.removeItem('last');
  document.addEventListener('keydown', keys);
  addEventListener('pageshow', (event) => event.persisted && location.reload());
  one('accept').addEventListener('click', () => decide('accept'));
  one('reject').addEventListener('click', () => decide('reject'));
  one('open')?.addEventListener('click', () => edit(true));
  one('cancel').addEventListener('click', cancel);
  form.addEventListener('submit', (event) => { event.preventDefault(); decide('edit'); });
  form.addEventListener('input', () => localStorage.setItem(draft, JSON.stringify(texts())));
  const begun = localStorage.getItem(draft);
  if (begun) {
    const kept = JSON.parse(begun);
    form.querySelectorAll('textarea').forEach((area) => { area.value = kept[area.name] ?? area.value; });
    edit(true);
    say('This edit was begun and not saved.');
  }
  const broken = async () => say(`The photo cannot be shown: ${await (await fetch(photo.src)).text()}`, true);
  if (photo.complete && !photo.naturalWidth) broken();
  photo.addEventListener('error', broken);
}
