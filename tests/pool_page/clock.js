// A clock that stands still until the test moves it: no timer of the page runs by itself.
(() => {
  let now = 0, made = 0;
  const timers = new Map();
  window.setTimeout = (call, delay = 0) => {
    made += 1;
    timers.set(made, { call, at: now + delay });
    return made;
  };
  window.clearTimeout = (timer) => timers.delete(timer);
  performance.now = () => now;
  // In how long each timer runs.
  window.due = () => [...timers.values()].map(({ at }) => at - now);
  window.advance = (span) => {
    now += span;
    for (const [timer, { call, at }] of [...timers]) {
      if (at <= now && timers.delete(timer)) call();
    }
  };
})();
