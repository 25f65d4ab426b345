// The texts whose contrast with the ground is below 4.5.
const channels = (color) => color.match(/[\d.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = channels(color).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const opacity = (node) => node ? getComputedStyle(node).opacity * opacity(node.parentElement) : 1;
const ground = luminance(getComputedStyle(document.documentElement).backgroundColor);
const faint = [];
for (const node of document.body.querySelectorAll('*')) {
  const own = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE
    && child.textContent.trim() !== '');
  if (!own || node.closest('script, noscript') || !node.checkVisibility()) continue;
  const text = luminance(getComputedStyle(node).color);
  const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
  if (contrast < 4.5 || opacity(node) < 1) {
    faint.push(`${node.className}: ${contrast.toFixed(1)} ${node.textContent.slice(0, 40)}`);
  }
}
return faint;
