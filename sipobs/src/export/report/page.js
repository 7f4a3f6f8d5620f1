(() => {
  const form = document.querySelector('form');
  if (!form) return;
  const text = form.querySelector('input'), outcome = form.querySelector('select');
  const said = form.querySelector('output');
  const rows = [...document.querySelectorAll('[data-o]')];
  let known;
  const look = () => rows.map((row) => {
    const parts = row.matches('article') ? row.querySelectorAll('h3,.who,.ids') : [row];
    const words = [...parts].map((part) => part.textContent).join(' ').toLowerCase();
    return { row, words, outcome: row.dataset.o, numbers: words.match(/\d{3,}/g) || [] };
  });
  const filter = () => {
    known ||= look();
    const wanted = text.value.trim().toLowerCase();
    const digits = /^[-+()./*\s\d]+$/.test(wanted) ? wanted.replace(/\D/g, '') : '';
    // A number that is masked shows its last digits: the whole one is found by these.
    const is = (number) => number.endsWith(digits) || (digits.length > 6 && number.length < 5 && digits.endsWith(number));
    let shown = 0;
    for (const one of known) {
      const fits = !wanted || one.words.includes(wanted) || (digits.length > 2 && one.numbers.some(is));
      const shows = fits && (!outcome.value || one.outcome === outcome.value);
      one.row.hidden = !shows;
      shown += shows;
    }
    said.textContent = wanted || outcome.value ? `${shown} of ${known.length} shown` : '';
  };
  let waiting;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 80); };
  text.addEventListener('input', soon);
  outcome.addEventListener('change', filter);
  form.addEventListener('submit', (event) => { event.preventDefault(); filter(); });
  form.addEventListener('reset', () => setTimeout(filter));
  form.hidden = false;
  if (text.value || outcome.value) filter();
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !event.target.closest('input,select')) { event.preventDefault(); text.focus(); }
  });
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('article:not([hidden]) .w:not([open])')];
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener('afterprint', () => { opened.forEach((one) => { one.open = false; }); });
})();
