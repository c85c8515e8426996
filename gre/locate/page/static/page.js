// The page: hands photos to the server one after another, shows what is told, and marks it on the map. All text is put
// in as text: nothing that a file is called, or a model wrote, becomes HTML.
'use strict';
const $ = (id) => document.getElementById(id);
const make = (tag, own = {}, ...inside) => {
  const e = Object.assign(document.createElement(tag), own);
  e.append(...inside);
  return e;
};
const plural = (n, what) => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;
const letter = (at) => String.fromCharCode(65 + at);
const coordinates = (at) => `${at.latitude.toFixed(4)}, ${at.longitude.toFixed(4)}`;
const GONE = 'the server does not answer: is it still running?';
const UNREADABLE = 'this file cannot be read: it is a folder, or has changed since it was chosen';
const BROKE_OFF = 'the answer broke off: the server’s terminal says why';
const SMALLEST_KM = 1; // below it a distance says nothing
const SIDES = [
  ['right', [6, 0]],
  ['bottom', [0, 6]],
  ['left', [-6, 0]],
  ['top', [0, -6]],
]; // of a mark, for a model's letter
let settings, map, marks, stopping;
let wanted = null; // the mark where a photo was really taken
let shown = null; // the photo on the map
let followed = true; // until somebody chooses it is the newest
let working = false;
const waiting = [];
let done = 0;
let failed = 0;

async function start() {
  settings = await (await fetch('settings')).json();
  map = L.map('map', {attributionControl: false, minZoom: 0, maxZoom: 18, zoomSnap: 0.25, worldCopyJump: true});
  map.setView([25, 10], 0.5);
  if (settings.tiles) {
    L.tileLayer(settings.tiles).addTo(map);
    L.control
      .attribution({prefix: false})
      .addAttribution(`map: ${new URL(settings.tiles).host}`)
      .addTo(map);
  } else {
    L.polygon(await (await fetch('land')).json(), {className: 'land', fillRule: 'evenodd', interactive: false}).addTo(
      map,
    );
  }
  marks = L.layerGroup().addTo(map);
  map.on('click', (event) => settings.keep && shown && point(event.latlng));
  say(settings.models.length > 1 ? `${plural(settings.models.length, 'model')} are ready.` : 'The model is ready.');
}

function say(text) {
  $('status').textContent = text;
}

function add(files) {
  for (const file of files) waiting.push(photo(file));
  if (!working) pump();
}

// A photo, and its card among the answers.
function photo(file) {
  const card = make('article', {tabIndex: -1}, make('h3', {textContent: file.name}));
  const one = {
    file,
    card,
    found: [],
    columns: make('div', {className: 'columns'}),
    state: make('p', {className: 'soft', textContent: 'waiting'}),
  };
  one.look = make('button', {
    type: 'button',
    textContent: 'Show on the map',
    hidden: true,
    onclick: () => {
      followed = false;
      show(one, true);
    },
  });
  one.look.setAttribute('aria-label', `Show ${file.name} on the map`);
  card.append(one.state, one.columns, one.look);
  $('answers').append(card);
  return one;
}

async function pump() {
  working = true;
  stopping = new AbortController();
  await ready;
  $('stop').hidden = false;
  while (waiting.length) {
    const one = waiting.shift();
    if (stopping.signal.aborted) {
      one.card.remove();
      continue;
    }
    say(`Locating ${one.file.name}` + (waiting.length ? `; ${plural(waiting.length, 'photo')} waiting` : ''));
    const before = failed;
    for (let at = 0; at < settings.models.length && failed === before && !stopping.signal.aborted; at++)
      await ask(one, at);
    done += failed === before && !stopping.signal.aborted;
  }
  working = false;
  $('stop').hidden = true;
  say(`${plural(done, 'photo')} located` + (failed ? `, ${failed} could not be` : '') + '.');
}

// Ask one model about one photo, and show its answer as it is told.
async function ask(one, at) {
  const said = make('blockquote'),
    where = make('p', {className: 'where'}),
    column = make('section', {className: `m${at % 4}`});
  said.setAttribute('aria-label', 'Reasoning');
  const names =
    settings.models.length > 1
      ? [make('h4', {}, make('span', {className: 'badge', textContent: letter(at)}), ` ${settings.models[at].name}`)]
      : [];
  column.append(...names, where, said);
  try {
    if (one.file.size > settings.maxBytes)
      throw new Error(`the file is larger than ${settings.maxBytes >> 20} MiB: make it smaller`);
    const query = new URLSearchParams({model: at, exif: $('exif').checked ? 1 : 0});
    const answer = await send(`locate?${query}`, one.file, stopping.signal);
    one.columns.append(column);
    where.textContent =
      settings.models[at].samples > 1 ? `${plural(settings.models[at].samples, 'sample')}; the first:` : '…';
    for await (const line of lines(answer.body)) {
      if (line.error) throw new Error(line.error);
      if (line.photo && !one.picture)
        one.state.replaceWith((one.picture = make('img', {src: line.photo, alt: one.file.name})));
      if (line.text) said.textContent += line.text;
      if (line.exif) one.exif = line.exif;
      if (line.answer) {
        one.found[at] = line.answer;
        told(column, where, said, one, line.answer);
      }
    }
    if (!one.found[at]) throw new Error(BROKE_OFF);
  } catch (error) {
    const stopped = error.name === 'AbortError';
    const why = stopped ? 'stopped' : error instanceof TypeError ? BROKE_OFF : error.message; // a lost connection
    const message = make('p', {className: stopped ? 'soft' : 'error', textContent: why});
    if (!stopped) failed++;
    where.remove();
    if (one.state.isConnected) {
      one.state.replaceWith(message);
      column.remove();
    } else {
      column.append(message);
    }
    return;
  }
  one.look.hidden = false;
  if (followed || shown === one) show(one, false);
}

// Send a photo: the server's answer, or an Error that says why there is none.
async function send(where, file, signal) {
  await file.slice(0, 1).arrayBuffer().catch(() => {
    throw new Error(UNREADABLE);
  });
  const headers = {'Content-Type': 'application/octet-stream'};
  const answer = await fetch(where, {method: 'POST', body: file, signal, headers}).catch((error) => {
    throw error.name === 'AbortError' ? error : new Error(GONE);
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({})); // of a bug, or of a proxy, the body is no JSON
  throw new Error(told.error ?? `the server failed (status ${answer.status}): its terminal says why`);
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done: over} = await reader.read();
    if (over) return;
    const whole = (rest + value).split('\n');
    rest = whole.pop();
    for (const line of whole) yield JSON.parse(line);
  }
}

function told(column, where, said, one, answer) {
  where.textContent = answer.latitude === null ? 'No one place' : coordinates(answer);
  const more = [answer.near, answer.scatter].filter(Boolean).map((text) => make('p', {textContent: text}));
  if (!answer.finished) more.push(make('p', {className: 'soft', textContent: 'cut off at the limit of tokens'}));
  if (one.exif) more.push(make('p', {className: 'soft', textContent: position(one.exif)}));
  where.after(...more);
  said.textContent = answer.reasoning ?? answer.raw;
  column.append(
    make('details', {}, make('summary', {textContent: 'All that it wrote'}), make('pre', {textContent: answer.raw})),
  );
}

function position(exif) {
  if (exif.none) return `EXIF position: ${exif.none}`;
  const away = exif.distance_km;
  return (
    `EXIF position: ${coordinates(exif)}` +
    (away !== null
      ? `, ${away < SMALLEST_KM ? 'less than 1' : away.toLocaleString('en', {maximumFractionDigits: 0})} km from the answer`
      : '')
  );
}

// Put a photo's answers on the map.
function show(one, move) {
  if (shown !== one) {
    $('place').value = '';
    $('kept').textContent = '';
    wanted = null;
  }
  shown = one;
  marks.clearLayers();
  $('shown').textContent = one.file.name;
  const points = [],
    legend = [],
    mark = (at, radius, style) => {
      points.push(at);
      return L.circleMarker(at, {radius, className: style}).addTo(marks);
    };
  one.found.forEach((answer, at) => {
    const tone = `m${at % 4}`;
    const badge = make('span', {className: `badge ${tone}`, textContent: letter(at)});
    const spread = answer.samples
      ? `; ${plural(answer.samples.filter((each) => each.latitude !== null).length, 'small dot')}: its samples`
      : '';
    legend.push(
      make(
        'li',
        {},
        badge,
        ` ${answer.latitude === null ? 'no one place' : coordinates(answer) + (answer.near ? `, ${answer.near}` : '')}${spread}`,
      ),
    );
    for (const each of answer.samples ?? [])
      if (each.latitude !== null) mark([each.latitude, each.longitude], 4, `sample ${tone}`);
    if (answer.latitude === null) return;
    if (answer.radius_km)
      L.circle([answer.latitude, answer.longitude], {
        radius: answer.radius_km * 1000,
        className: `radius ${tone}`,
        interactive: false,
      }).addTo(marks);
    const [direction, offset] = SIDES[at % 4];
    mark([answer.latitude, answer.longitude], 8, `answer ${tone}`).bindTooltip(letter(at), {
      permanent: true,
      direction,
      offset,
    });
  });
  if (one.exif && !one.exif.none) {
    mark([one.exif.latitude, one.exif.longitude], 10, 'true').bindTooltip('EXIF', {
      permanent: true,
      direction: 'left',
      offset: [-8, 0],
    });
    legend.push(
      make('li', {}, make('span', {className: 'badge true', textContent: 'EXIF'}), ` ${coordinates(one.exif)}`),
    );
  }
  $('legend').replaceChildren(...legend);
  $('correct').hidden = !settings.keep;
  if (wanted) marks.addLayer(wanted);
  if (points.length) map.fitBounds(points, {maxZoom: 4, padding: [40, 40], animate: false});
  if (move) $('where').scrollIntoView({block: 'nearest'});
}

// Mark where a photo was really taken.
function point(at) {
  const {lat, lng} = at.wrap();
  wanted?.remove();
  wanted = L.circleMarker([lat, lng], {radius: 10, className: 'true'})
    .bindTooltip('here', {permanent: true, direction: 'left', offset: [-8, 0]})
    .addTo(marks);
  $('place').value = `${lat.toFixed(4)}, ${lng.toFixed(4)}`;
  $('kept').textContent = '';
}

$('photos').onchange = () => {
  add($('photos').files);
  $('photos').value = '';
};
$('stop').onclick = () => stopping.abort();
$('middle').onclick = () => point(map.getCenter());
$('correct').onsubmit = async (event) => {
  event.preventDefault();
  const one = shown;
  $('kept').className = '';
  try {
    const answer = await send(`keep?${new URLSearchParams({place: $('place').value})}`, one.file);
    const kept = await answer.json();
    if (shown === one) point(L.latLng(kept.latitude, kept.longitude));
    $('kept').textContent =
      `Kept: ${one.file.name} was taken at ${coordinates(kept)}, near ${kept.near}. ${plural(kept.rows, 'row')} so far.`;
  } catch (error) {
    $('kept').className = 'error';
    $('kept').textContent = `Not kept: ${error.message}`;
  }
};
for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  document.addEventListener(name, (event) => {
    event.preventDefault(); // a photo dropped beside the box must not replace the page
    $('drop').classList.toggle('over', name === 'dragenter' || name === 'dragover');
    if (name === 'drop') add(event.dataTransfer.files);
  });
}
const ready = start();
ready.catch(() => say(GONE));
