(() => {
  // Of many, as many are in the page as somebody looks at; the rest is found by the filter, or by more.
  const KEPT = 10000, STEP = 200;
  const form = document.querySelector('form'), body = document.querySelector('#rows');
  const more = document.querySelector('#more'), said = form.querySelector('output');
  const choices = ['outcome', 'fault', 'trunk'];
  let rows = [], known = new Set(), most = STEP, waiting = false, live = false;
  const REFRESH = 3000;
  const words = (row) => [row.said, row.who, row.calls, row.id].join(' ').toLowerCase();
  const choose = (what, value) => {
    const select = form.elements[what], key = `${what} ${value}`;
    if (!value || known.has(key) || select.options.length > 200) return;
    known.add(key);
    select.add(new Option(value.replaceAll('_', ' '), value));
  };
  const line = (row) => {
    const tr = document.createElement('tr');
    tr.dataset.o = row.outcome;
    const cell = (kind, text) => tr.appendChild(document.createElement(kind)).append(text);
    cell('td', row.when);
    const link = document.createElement('a');
    link.href = `/verdict/${encodeURIComponent(row.id)}`;
    link.textContent = row.said;
    cell('th', link);
    tr.lastChild.scope = 'row';
    tr.lastChild.className = row.tone;
    cell('td', row.who);
    cell('td', row.trunk);
    return tr;
  };
  const draw = () => {
    waiting = false;
    const wanted = form.elements.text.value.trim().toLowerCase();
    const digits = /^[-+()./*\s\d]+$/.test(wanted) ? wanted.replace(/\D/g, '') : '';
    // A number that is masked shows its last digits: the whole one is found by these.
    const is = (number) => number.endsWith(digits) || (digits.length > 6 && number.length < 5 && digits.endsWith(number));
    const fits = (row) => choices.every((what) => !form.elements[what].value || form.elements[what].value === row[what])
      && (!wanted || row.words.includes(wanted) || (digits.length > 2 && row.numbers.some(is)));
    const found = rows.filter(fits);
    body.replaceChildren(...found.slice(-most).reverse().map(line));
    more.hidden = found.length <= most;
    said.textContent = `${live ? '' : 'not connected; '}${Math.min(found.length, most)} of ${found.length} shown, ${rows.length} there`;
  };
  const soon = () => { if (!waiting) { waiting = true; setTimeout(draw, 250); } };
  // How the capture is and how transfers were tried: the same as the page came with, anew.
  const parts = ['state', 'kept', 'over'].map((id) => document.getElementById(id));
  const put = (old, fresh) => {
    // Whoever reads the table goes on reading it.
    const open = old.querySelector('details[open]');
    if (open && fresh.querySelector('details')) fresh.querySelector('details').open = true;
    if (old.innerHTML !== fresh.innerHTML && !old.contains(document.activeElement)) old.replaceChildren(...fresh.childNodes);
  };
  let asking = false;
  const refresh = async () => {
    if (document.hidden || asking) return;
    asking = true;
    const trunk = form.elements.trunk.value;
    try {
      const answer = await fetch(`/now${trunk && `/${encodeURIComponent(trunk)}`}`, { signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.status);
      const now = new DOMParser().parseFromString(await answer.text(), 'text/html');
      parts.forEach((part) => put(part, now.getElementById(part.id)));
    } catch {
      const gone = document.createElement('p');
      gone.className = 'note bad';
      gone.textContent = 'Capture: not known, as the daemon does not answer.';
      if (parts[0].textContent !== gone.textContent) parts[0].replaceChildren(gone);
    }
    asking = false;
    // Another was chosen meanwhile.
    if (trunk !== form.elements.trunk.value) refresh();
  };
  setInterval(refresh, REFRESH);
  document.addEventListener('visibilitychange', refresh);
  form.elements.trunk.addEventListener('change', refresh);
  form.addEventListener('submit', (event) => { event.preventDefault(); draw(); });
  form.addEventListener('input', () => { most = STEP; soon(); });
  more.addEventListener('click', () => { most += STEP; draw(); });
  const events = new EventSource('/events');
  events.addEventListener('message', (event) => {
    const row = JSON.parse(event.data);
    row.words = words(row);
    row.numbers = [row.said, row.who].join(' ').match(/\d{3,}/g) || [];
    rows.push(row);
    if (rows.length > KEPT) rows.splice(0, rows.length - KEPT);
    choices.forEach((what) => choose(what, row[what]));
    soon();
  });
  events.addEventListener('forget', () => { rows = []; soon(); });
  events.addEventListener('open', () => { live = true; soon(); });
  // An answer ends, and the next one goes on: only what lasts is worth a word.
  let lost;
  events.addEventListener('error', () => { clearTimeout(lost); lost = setTimeout(() => { live = events.readyState === 1; soon(); }, 20000); });
  draw();
})();
