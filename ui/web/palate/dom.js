/** Making elements. */

/**
 * @param {string} tag
 * @param {string} className
 * @param {object} properties of the element
 * @param {...(Node | string)} children
 */
export function element(tag, className = "", properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), { className, ...properties });
  made.append(...children);
  return made;
}
