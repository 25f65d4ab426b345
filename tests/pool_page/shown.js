// All that the page shows, and the answer that it shows, at one moment.
const all = (node, selector) => [...node.querySelectorAll(selector)];
const text = (node, selector) => node.querySelector(selector)?.textContent;
const fill = (node) => ['backgroundColor', 'backgroundImage'].map((property) =>
  getComputedStyle(node)[property]).join(' ');
const width = (node) => node.getBoundingClientRect().width;
const own = (node) => node.lastElementChild.textContent;
return {
  answer: last ?? null,
  state: text(document, '#state'),
  stale: document.body.classList.contains('stale'),
  title: document.title,
  totals: text(document, '#totals'),
  upstreams: all(document, '.upstream').map((upstream) => ({
    name: text(upstream, '.name'),
    limit: text(upstream, '.limit'),
    bar: width(upstream.querySelector('.bar')),
    parts: Object.fromEntries(['leased', 'connecting', 'idle'].map((part) => [part, {
      width: width(upstream.querySelector(`.bar .${part}`)),
      count: text(upstream, `.legend .${part} + b`),
      fill: fill(upstream.querySelector(`.bar .${part}`)),
      key: fill(upstream.querySelector(`.legend .${part}`)),
    }])),
    figures: Object.fromEntries(all(upstream, '.figure b').map((value) => [value.className,
      value.textContent])),
    reuse_line: upstream.querySelector('.spark').getAttribute('d') ?? '',
    closes: all(upstream, '.close').map((close) => ({
      reason: text(close, 'dt'), count: text(close, 'dd'), width: width(close.lastElementChild),
    })),
    hosts: all(upstream, '.host').map((host) => ({
      address: text(host, '.address'),
      health: text(host, '.health'),
      shape: ['clipPath', 'backgroundImage', 'borderRadius'].map((property) =>
        getComputedStyle(host.querySelector('.health'), '::before')[property]).join(' '),
      counts: Object.fromEntries(all(host, '.count').map((field) => [text(field, '.label'),
        own(field)])),
      open: host.open,
      connections: all(host, 'tbody tr').map((row) => all(row, 'td').map((cell) =>
        cell.textContent)),
    })),
  })),
};
